"""Bodies: read whole or streamed, bounded either way."""

from collections.abc import Sequence

import pytest

from gateway.proxy.body import (
    BodyTooLarge,
    CallerLeft,
    Message,
    Receive,
    read_body,
    stream_body,
)

_LEFT: Message = {"type": "http.disconnect"}


def _receive(messages: Sequence[bytes | Message]) -> Receive:
    rest = [
        {"type": "http.request", "body": part, "more_body": index < len(messages) - 1}
        if isinstance(part, bytes)
        else part
        for index, part in enumerate(messages)
    ]

    async def receive() -> Message:
        return rest.pop(0)

    return receive


async def _streamed(receive: Receive, bytes_max: int) -> list[bytes]:
    return [chunk async for chunk in stream_body(receive, bytes_max)]


async def test_body_is_read_whole() -> None:
    """The parts of a body are put together, up to exactly the bound."""
    assert await read_body(_receive([b"abc"]), 3) == b"abc"
    assert await read_body(_receive([b"ab", b"", b"c"]), 3) == b"abc"
    assert await read_body(_receive([b""]), 3) == b""


async def test_body_is_streamed() -> None:
    """A body is passed on part by part, without empty parts."""
    assert await _streamed(_receive([b"ab", b"", b"c"]), 3) == [b"ab", b"c"]


async def test_body_beyond_the_bound_is_refused() -> None:
    """One byte too many is refused while it comes."""
    with pytest.raises(BodyTooLarge):
        await read_body(_receive([b"ab", b"cd", b"never read"]), 3)
    with pytest.raises(BodyTooLarge):
        await _streamed(_receive([b"ab", b"cd"]), 3)


@pytest.mark.parametrize("messages", [[_LEFT], [b"a", _LEFT]])
async def test_caller_who_leaves_is_noticed(messages: list[bytes | Message]) -> None:
    """A body that will never be complete is not taken for a short one."""
    with pytest.raises(CallerLeft):
        await read_body(_receive(messages), 3)
    with pytest.raises(CallerLeft):
        await _streamed(_receive(messages), 3)
