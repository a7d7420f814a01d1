"""Idempotency: what makes a request known again, by the key that its caller gave it."""

import hashlib

from msgspec import structs

from gateway.domain.reservation import Ask


def recognised(ask: Ask, key_id: str, idempotency_key: bytes, asked_for: bytes) -> Ask:
    """Return an ask with its digests: whose key it is and which, and what was asked for with it."""
    owner = f"{ask.org}\0{key_id}\0{ask.agent}\0".encode()
    return structs.replace(
        ask,
        idempotency_digest=hashlib.sha256(owner + idempotency_key).hexdigest(),
        body_digest=hashlib.sha256(asked_for).hexdigest(),
    )
