"""A key is read in one way only, and what is not a key is refused."""

import hashlib

import pytest

from gateway.domain.key import is_id, read_key

NOT_KEYS = [
    "",
    "bgk_acme_k1",
    "bgk__k1_s3cret",
    "BGK_acme_k1_s3cret",
    "bgk_acme_k1_s3cret\n",
    " bgk_acme_k1_s3cret",
    "bgk_ac:me_k1_s3cret",
    "bgk_acme_k-1_s3cret",
    "bgk_acme_k1_s3-cret",
    "bgk_acme_k1_",
    "bgk_acme__s3cret",
    f"bgk_{'a' * 49}_k1_s3cret",
    f"bgk_acme_k1_{'s' * 129}",
    "bgk_acme_k1_s3crét",
]


def test_read_key_names_org_and_key_id() -> None:
    """A well-formed key gives its org and its key id."""
    key = read_key("bgk_acme_k1_s3cret")
    assert key is not None
    assert (key.org, key.key_id) == ("acme", "k1")


def test_read_key_splits_from_the_right() -> None:
    """An org with underscores and dashes keeps all of them."""
    key = read_key("bgk_a_b-c_d_k1_s3cret")
    assert key is not None
    assert (key.org, key.key_id) == ("a_b-c_d", "k1")


def test_read_key_digests_the_whole_text() -> None:
    """The digest is the SHA-256 of the key text in hex."""
    text = "bgk_acme_k1_s3cret"
    key = read_key(text)
    assert key is not None
    assert key.digest == hashlib.sha256(text.encode()).hexdigest()


def test_read_key_forgets_the_secret() -> None:
    """Nothing that prints a KeyText can leak the secret."""
    assert "s3cret" not in repr(read_key("bgk_acme_k1_s3cret"))


@pytest.mark.parametrize("text", NOT_KEYS)
def test_read_key_refuses_other_texts(text: str) -> None:
    """A text of another form is not a key."""
    assert read_key(text) is None


@pytest.mark.parametrize("text", ["a", "A-b_9", "x" * 48])
def test_is_id_accepts_ids(text: str) -> None:
    """Letters, digits, underscore and dash, up to 48 of them, make an id."""
    assert is_id(text)


@pytest.mark.parametrize("text", ["", "x" * 49, "a b", "a:b", "a{b", "é", "a\n", "٣"])
def test_is_id_refuses_other_texts(text: str) -> None:
    """Whatever could end up as another Redis key is not an id."""
    assert not is_id(text)
