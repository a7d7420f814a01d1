"""Keys and ids: what a caller shows, and what an org or agent may be called."""

import hashlib
import re
from functools import lru_cache

from msgspec import Struct

_ID = re.compile(r"[A-Za-z0-9_-]{1,48}")
# Key id and secret hold no underscore, so an org that does is still split in one way only.
_KEY = re.compile(r"bgk_([A-Za-z0-9_-]{1,48})_([0-9A-Za-z]{1,32})_([0-9A-Za-z]{1,128})")


class KeyText(Struct, frozen=True, gc=False):
    """A key that has the right form; whether it exists is for the store to say.

    ``digest`` is the SHA-256 of the whole key text in lower-case hex. The secret is not kept, so
    a KeyText may be logged.
    """

    org: str
    key_id: str
    digest: str


def is_id(text: str) -> bool:
    """Whether a text may name an org or an agent: 1 to 48 of ``A-Z a-z 0-9 _ -``."""
    return _ID.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def read_key(text: str) -> KeyText | None:
    """Read ``bgk_<org>_<key id>_<secret>``, or return None where the text is not a key.

    Remembered, because a caller shows the same key again and again; whether it may still be used
    is asked each time.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    org, key_id, _ = match.groups()
    return KeyText(org, key_id, hashlib.sha256(text.encode("ascii")).hexdigest())
