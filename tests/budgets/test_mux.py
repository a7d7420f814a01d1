"""The mux without a server: what is written when, and which call gets which reply."""

import asyncio
from typing import Any

import pytest

from gateway.budgets.mux import SUSPECT_S, Mux, fault_of
from gateway.errors import OutcomeUnknown, StoreError, StoreUnavailable
from tests.budgets.stub_redis import packed
from tests.until import until

SHA = "a" * 40


class _Recorder(asyncio.Transport):
    """A transport that keeps each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Accept the limit."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.writes.append(bytes(data))

    def abort(self) -> None:
        """Note it."""
        self.aborted = True


def _connected(deadline_s: float = 5.0, calls_max: int = 100) -> tuple[Mux, _Recorder]:
    mux = Mux(asyncio.get_running_loop(), deadline_s, calls_max)
    transport = _Recorder()
    mux.connection_made(transport)
    return mux, transport


class _Ear:
    """A waiter that is no future."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def done(self) -> bool:
        """Say whether it was told."""
        return bool(self.heard)

    def set_result(self, result: Any, /) -> None:
        """Keep it."""
        self.heard.append(result)

    def set_exception(self, exception: StoreError, /) -> None:
        """Keep its kind."""
        self.heard.append(type(exception))


async def _turn() -> None:
    """Let the callbacks that are queued now run."""
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned


async def _fault(future: "asyncio.Future[Any]") -> type[BaseException]:
    with pytest.raises(StoreError) as caught:
        await future
    return caught.type


async def test_mux_writes_once_per_turn() -> None:
    """Calls of one event-loop turn leave in one write, in order; the next turn's in the next."""
    mux, transport = _connected()

    mux.send(("GET", "a"))
    mux.send(("GET", b"b", 3))
    assert transport.writes == []
    await _turn()
    mux.send(("GET", "c"))
    await _turn()

    first = packed("GET", "a") + packed("GET", "b", 3)
    assert transport.writes == [first, packed("GET", "c")]


async def test_mux_matches_replies_in_order_over_any_split() -> None:
    """However the bytes arrive, the first reply belongs to the first call."""
    mux, _ = _connected()
    futures = [mux.send(("GET", number)) for number in range(3)]

    for byte in b":0\r\n$3\r\none\r\n*1\r\n:2\r\n":
        mux.data_received(bytes([byte]))

    assert [await future for future in futures] == [0, b"one", [2]]


async def test_mux_drops_only_the_reply_of_a_cancelled_caller() -> None:
    """A caller that goes away shifts nobody else's reply."""
    mux, _ = _connected()
    gone, stays = mux.send(("GET", "a")), mux.send(("GET", "b"))

    gone.cancel()
    mux.data_received(b":1\r\n:2\r\n")

    assert await stays == 2


async def test_mux_tells_a_waiter_while_it_reads() -> None:
    """Who waits without a future has the reply before the next turn, and each fault once."""
    mux, _ = _connected(calls_max=2)
    replied, broken, refused = _Ear(), _Ear(), _Ear()

    for ear in (replied, broken, refused):
        mux.transmit(ear, packed("GET", "a"))
    mux.data_received(b":1\r\n")
    assert (replied.heard, broken.heard, refused.heard) == ([1], [], [StoreUnavailable])
    await _turn()
    mux.connection_lost(None)

    assert (replied.heard, broken.heard, refused.heard) == (
        [1],
        [OutcomeUnknown],
        [StoreUnavailable],
    )


async def test_mux_drains_until_the_last_reply() -> None:
    """The end of a connection waits for every reply, whoever is told it."""
    mux, _ = _connected()
    await mux.drain(5.0)
    mux.transmit(_Ear(), packed("GET", "a"))
    mux.transmit(_Ear(), packed("GET", "b"))

    draining = asyncio.create_task(mux.drain(5.0))
    await _turn()
    mux.data_received(b":1\r\n")
    await _turn()
    await _turn()
    assert not draining.done()
    mux.data_received(b":2\r\n")

    async with asyncio.timeout(1.0):
        await draining


async def test_mux_does_not_drain_what_is_lost() -> None:
    """A connection that breaks has nothing to wait for."""
    mux, _ = _connected()
    mux.transmit(_Ear(), packed("GET", "a"))

    draining = asyncio.create_task(mux.drain(5.0))
    await _turn()
    mux.connection_lost(None)

    async with asyncio.timeout(1.0):
        await draining


async def test_mux_refuses_when_the_queue_is_full() -> None:
    """At most calls_max calls wait; the next fails at once and nothing of it is written."""
    mux, transport = _connected(calls_max=2)
    mux.send(("GET", "a"))
    mux.send(("GET", "b"))

    assert await _fault(mux.send(("GET", "c"))) is StoreUnavailable

    await _turn()
    assert transport.writes[0].count(b"GET") == 2
    mux.data_received(b":1\r\n")
    later = mux.send(("GET", "d"))
    mux.data_received(b":2\r\n:4\r\n")
    assert await later == 4


async def test_mux_refuses_while_the_socket_is_full() -> None:
    """While what was written is not taken, calls fail at once; afterwards they are sent."""
    mux, _ = _connected()

    mux.pause_writing()
    assert await _fault(mux.send(("GET", "a"))) is StoreUnavailable
    mux.resume_writing()

    later = mux.send(("GET", "b"))
    mux.data_received(b":1\r\n")
    assert await later == 1


async def test_mux_fails_a_call_at_its_deadline_and_counts_its_reply_off() -> None:
    """An overdue reply reaches nobody; until it came, calls fail at once."""
    mux, transport = _connected(deadline_s=0.02)
    first, second = mux.send(("GET", "a")), mux.send(("GET", "b"))

    assert await _fault(first) is OutcomeUnknown
    assert await _fault(second) is OutcomeUnknown
    assert await _fault(mux.send(("GET", "c"))) is StoreUnavailable
    mux.data_received(b":1\r\n")
    assert await _fault(mux.send(("GET", "d"))) is StoreUnavailable
    mux.data_received(b":2\r\n")
    later = mux.send(("GET", "e"))
    mux.data_received(b":5\r\n")

    assert await later == 5
    assert b"".join(transport.writes).count(b"GET") == 2


async def test_mux_stays_when_the_overdue_reply_came() -> None:
    """A server that answered late but did answer is not given up afterwards."""
    mux, transport = _connected(deadline_s=0.01)
    assert await _fault(mux.send(("GET", "a"))) is OutcomeUnknown
    mux.data_received(b":1\r\n")

    end = asyncio.get_running_loop().time() + SUSPECT_S + 0.1
    await until(lambda: asyncio.get_running_loop().time() > end, "the suspicion to run out")

    assert not transport.aborted


async def test_mux_obeys_a_shorter_deadline_at_once() -> None:
    """After a slow greeting the calls that follow fail at their own, shorter deadline."""
    mux, _ = _connected(deadline_s=60.0)
    greeting = mux.send(("AUTH", "pw"))
    mux.data_received(b"+OK\r\n")
    await greeting

    mux.set_deadline(0.01)

    async with asyncio.timeout(5.0):
        assert await _fault(mux.send(("GET", "a"))) is OutcomeUnknown


async def test_mux_forgives_a_reply_that_came_in_a_long_turn() -> None:
    """A deadline that passed while the loop was busy gives the socket a chance to be read."""
    mux, _ = _connected(deadline_s=0.0)
    future = mux.send(("GET", "a"))

    await _turn()
    await _turn()
    mux.data_received(b":1\r\n")

    assert await future == 1


async def test_mux_tells_sent_calls_from_unsent_ones_when_lost() -> None:
    """When the connection breaks, only what was written has an unknown outcome."""
    mux, _ = _connected()
    sent = mux.send(("GET", "a"))
    await _turn()
    unsent = mux.send(("GET", "b"))

    mux.connection_lost(ConnectionResetError("gone"))

    assert await _fault(sent) is OutcomeUnknown
    assert await _fault(unsent) is StoreUnavailable
    assert await mux.lost == "The connection to Redis broke: gone."
    assert await _fault(mux.send(("GET", "c"))) is StoreUnavailable


async def test_mux_writes_nothing_when_given_up() -> None:
    """Calls of the turn in which the connection is given up were never sent."""
    mux, transport = _connected()
    call = mux.send(("GET", "a"))

    mux.lose("Over.")
    await _turn()
    mux.connection_lost(None)

    assert transport.writes == []
    assert await _fault(call) is StoreUnavailable
    assert await mux.lost == "Over."


async def test_mux_sends_an_unknown_script_again_as_eval() -> None:
    """A NOSCRIPT reply repeats that call alone, with its text and the same words."""
    mux, transport = _connected()
    future = mux.send(("EVALSHA", SHA, 1, "k", "v"), "return 1")
    await _turn()

    mux.data_received(b"-NOSCRIPT No matching script.\r\n")
    await _turn()
    mux.data_received(b":1\r\n")

    assert await future == 1
    assert transport.writes[1] == packed("EVAL", "return 1", 1, "k", "v")


async def test_mux_keeps_the_deadline_of_a_call_sent_again() -> None:
    """A call that was sent again fails at its first deadline, younger calls do not."""
    mux, _ = _connected(deadline_s=0.05)
    again = mux.send(("EVALSHA", SHA, 0), "return 1")
    await _turn()
    mux.set_deadline(5.0)
    younger = mux.send(("GET", "a"))
    mux.data_received(b"-NOSCRIPT No matching script.\r\n")

    assert await _fault(again) is OutcomeUnknown
    assert not younger.done()
    mux.data_received(b":7\r\n:1\r\n")
    assert await younger == 7


@pytest.mark.parametrize("data", [b":1\r\n", b"!garbage\r\n", b"-ERR max number of clients\r\n"])
async def test_mux_gives_up_on_what_nobody_asked_for(data: bytes) -> None:
    """A reply without a call, or bytes that are no reply, end the connection: matching is off."""
    mux, transport = _connected()

    mux.data_received(data)

    assert transport.aborted
    assert await _fault(mux.send(("GET", "a"))) is StoreUnavailable


@pytest.mark.parametrize("before", [b"-", b"-ERR Error running script: @user_script: 1: -"])
async def test_mux_gives_up_a_replica(before: bytes) -> None:
    """READONLY fails the call as not applied and ends the connection: the name may have moved."""
    mux, transport = _connected()
    future = mux.send(("SET", "a", "1"))

    mux.data_received(before + b"READONLY You can't write against a read only replica.\r\n")

    assert await _fault(future) is StoreUnavailable
    assert transport.aborted


async def test_mux_gives_up_a_silent_server() -> None:
    """A server that stays silent after a deadline is given up, so that another can be tried."""
    mux, transport = _connected(deadline_s=0.01)

    assert await _fault(mux.send(("GET", "a"))) is OutcomeUnknown

    assert not transport.aborted
    await until(lambda: transport.aborted, "the silent server to be given up")


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("READONLY You can't write against a read only replica.", StoreUnavailable),
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreUnavailable),
        ("LOADING Redis is loading the dataset in memory", StoreUnavailable),
        ("MASTERDOWN Link with MASTER is down", StoreUnavailable),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable),
        ("MISCONF Errors writing to the AOF file", StoreUnavailable),
        ("BUSY Redis is busy running a script.", StoreUnavailable),
        ("ERR Error running script: @user_script:3: -OOM command not allowed", StoreUnavailable),
        ("ERR Error running script: @user_script: -READONLY You can't", StoreUnavailable),
        ("ERR wrong number of arguments", StoreError),
        ("WRONGTYPE Operation against a key", StoreError),
        ("NOPERM this user has no permissions", StoreError),
    ],
)
def test_fault_of_maps_error_replies(message: str, fault: type[StoreError]) -> None:
    """What Redis refuses for now is unavailable, everything else an error; the message is kept."""
    found = fault_of(message)

    assert type(found) is fault
    assert str(found) == message
