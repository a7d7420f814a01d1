"""Key texts and agents' descriptions of any bytes: refused and named, never a crash.

K1 a key text is read in one way or not at all, and what is read names its own org
A1 a description is a route or unusable with the reason; it never raises, and never sends anything
   of the environment but GATEWAY_CREDENTIAL_*, nor of the disk but the credentials folder
"""

import asyncio
import re
from pathlib import Path
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.key import is_id, read_key
from gateway.proxy.agents import Agents, Found, Route, Unusable
from gateway.proxy.credentials import Credentials
from gateway.proxy.head import header_lines, read_request_head
from tests.fuzzing import examples

_DESCRIBED: dict[str, Any] = {
    "upstream": "http://127.0.0.1:9/base",
    "dialect": "auto",
    "price": {"mode": "flat", "cents": "2", "ceiling_cents": "5", "output_default": 10},
    "on_unpriced": "deny",
    "charge_errors": False,
    "on_outgrow": "cut",
    "headers": {"x-a": "env:GATEWAY_CREDENTIAL_A", "x-b": "file:token"},
    "timeouts": {"connect_s": 5, "read_s": 610, "idle_s": 120},
}
_SECRET = "not-for-an-upstream"
_BROKEN = "given\r\nx-c: made"
_ENVIRON = {"GATEWAY_CREDENTIAL_A": "given", "GATEWAY_CREDENTIAL_B": _BROKEN}
_ENVIRON |= {"HOME": _SECRET, "STRIPE_API_KEY": _SECRET}
_SOURCES = ["env:HOME", "env:", "env:GATEWAY_CREDENTIAL_B", "file:../secret", "file:link"]
_SOURCES += ["file:broken", "file:\0", "file:"]
_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=12),
        st.sampled_from([*_SOURCES, "http://a\r\nb", "http://[", ""]),
        st.sampled_from(["1" * 5000, "\ud7ff", "http://\u2100.test", "http://a.test:\u0663"]),
    ),
    lambda parts: st.one_of(
        st.lists(parts, max_size=3), st.dictionaries(st.text(max_size=8), parts, max_size=3)
    ),
    max_leaves=6,
)
_PLACES = st.sampled_from(
    [(name,) for name in _DESCRIBED]
    + [(name, inner) for name in ("price", "headers", "timeouts") for inner in _DESCRIBED[name]]
)


def _changed(place: tuple[str, ...], value: Any) -> bytes:
    described = orjson.loads(orjson.dumps(_DESCRIBED))
    inner = described
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return orjson.dumps(described)


_WHOLE = orjson.dumps(_DESCRIBED)
_TEXTS = st.one_of(
    st.builds(_changed, _PLACES, _VALUES),
    st.builds(
        lambda at, width, put: _WHOLE[:at] + put + _WHOLE[at + width :],
        st.integers(0, len(_WHOLE)),
        st.integers(0, 20),
        st.binary(max_size=6),
    ),
    st.binary(max_size=40),
    _VALUES.map(orjson.dumps),
)


async def _found(text: bytes, folder: Path) -> Found:
    async def read(_org: str, _agent: str) -> bytes | None:
        return text

    return await Agents(read, Credentials(_ENVIRON, folder)).find("acme", "researcher")


def _credentials(folder: Path) -> Path:
    """Return a credentials folder with what an operator put there, good and bad."""
    credentials = folder / "credentials"
    if not credentials.exists():
        credentials.mkdir()
        (folder / "secret").write_text(_SECRET)
        (credentials / "token").write_text("given")
        (credentials / "broken").write_text(_BROKEN)
        (credentials / "link").symlink_to(folder / "secret")
    return credentials


@examples(200)
@given(text=_TEXTS)
@example(b"[" * 100_000)
@example(b'{"a":' * 2_000)
@example(_changed(("headers", "x-a"), "env:HOME"))
@example(_changed(("headers", "x-a"), "env:GATEWAY_CREDENTIAL_B"))
@example(_changed(("headers", "x-a"), "file:link"))
def test_description_is_usable_or_named(tmp_path: Path, text: bytes) -> None:
    """A1: whatever stands in the registry, a call of the agent hears 500 and the log says why."""
    found = asyncio.run(_found(text, _credentials(tmp_path)))

    assert isinstance(found, (Route, Unusable))
    if isinstance(found, Unusable):
        assert found.why
    else:
        assert _SECRET.encode() not in found.added_lines
        assert found.added_lines.count(b"\n") == found.added_lines.count(b"\r") == len(found.added)


@examples(100)
@given(
    name=st.one_of(st.text(max_size=8), st.sampled_from(["x-a", "X-A", "x-c: made\r\nx-a"])),
    source=st.one_of(st.text(max_size=12), st.sampled_from([*_SOURCES, _BROKEN])),
)
@example("x-a", "env:HOME")
@example("x-a", "env:GATEWAY_CREDENTIAL_B")
@example("x-a", "file:../secret")
@example("x-a", "file:link")
@example("x-c: made\r\nx-a", "given")
def test_credential_is_one_line_of_its_own_places(tmp_path: Path, name: str, source: str) -> None:
    """A1: also where whoever read the description has let it through."""
    try:
        lines = header_lines(Credentials(_ENVIRON, _credentials(tmp_path)).headers({name: source}))
    except ValueError:
        return

    assert _SECRET.encode() not in lines
    assert (lines.count(b"\r"), lines.count(b"\n"), lines.count(b"\0")) == (1, 1, 0)


_KEYS = st.one_of(
    st.text(max_size=80),
    st.from_regex(re.compile(r"bgk_[\w-]{0,50}_[\w-]{0,34}_[\w]{0,130}")),
    st.builds(
        lambda at, put: "bgk_acme_k1_s3cret"[:at] + put + "bgk_acme_k1_s3cret"[at:],
        st.integers(0, 18),
        st.text(max_size=3),
    ),
)


@examples(100)
@given(text=_KEYS)
@example("bgk_acme_k1_s3cret\n")
@example("bgk_acme}:x_k1_s3cret")
@example("bgk_\u0661_k1_s")
@example("bgk_acme_k\u0661_s")
@example("bgk_acme_k1_s\u0661")
def test_key_text_is_read_in_one_way(text: str) -> None:
    """K1: org, key id and secret make up the text again, and can be part of a key of Redis."""
    key = read_key(text)

    if key is not None:
        assert is_id(key.org)
        assert re.fullmatch(r"[0-9A-Za-z]{1,32}", key.key_id)
        assert text.startswith(f"bgk_{key.org}_{key.key_id}_")
        assert re.fullmatch(r"[0-9A-Za-z]{1,128}", text[len(f"bgk_{key.org}_{key.key_id}_") :])


_HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"x-api-key", b"budget-key", b"cookie"]),
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([b"Bearer bgk_acme_k1_s", b"bearer  bgk_evil_k1_s", b"bgk_evil_k1_s"]),
        ),
    ),
    max_size=4,
)


@examples(100)
@given(headers=_HEADERS)
def test_any_header_may_hold_a_key(headers: list[tuple[bytes, bytes]]) -> None:
    """K1: reading them never fails, and the key that is used is one that was shown, whole."""
    head = read_request_head(headers)

    if head.key is not None:
        shown = b" ".join(value for _, value in headers)
        assert f"bgk_{head.key.org}_{head.key.key_id}_".encode() in shown
