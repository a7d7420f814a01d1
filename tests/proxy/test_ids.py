"""A fresh id is a ULID of this instant, and no other one."""

import time

from ulid import ULID

from gateway.domain.reservation_id import reserved_ms
from gateway.proxy.ids import new_id


def test_id_is_a_ulid_of_now() -> None:
    """The library reads the same instant in it that the scripts are told."""
    before_ms = time.time_ns() // 1_000_000
    made = new_id()
    after_ms = time.time_ns() // 1_000_000

    read_ms = ULID.from_str(made).milliseconds
    assert before_ms <= read_ms <= after_ms
    assert int(reserved_ms(made)) == read_ms
    assert str(ULID.from_str(made)) == made


def test_ids_differ_in_every_place() -> None:
    """Many ids of one instant are all different, and each random character takes every value."""
    made = [new_id() for _ in range(20_000)]

    assert len(set(made)) == len(made)
    assert all(len({text[place] for text in made}) == 32 for place in range(10, 26))
