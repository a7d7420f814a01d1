"""Limits that are no hash warn of nothing: a settle or a correct does not fail half done."""

from gateway.budgets.changes import Correction
from tests.lua.store import ORG, Store, cents


async def test_settle_and_correct_do_not_fail_after_their_writes(store: Store) -> None:
    """Both answer, and each counts its seq."""
    ask, held = await store.held(cents(1))
    await store.client.delete("bg:{acme}:limits")
    await store.client.set("bg:{acme}:limits", "x")
    seq = int(await store.client.hget("bg:{acme}:meta", "seq"))

    settled = await store.settle(ask, held, cents(2))
    change = Correction(store.id(), ORG, ask.agent, ask.id, held.windows, cents(1), b"{}")
    word = await store.budgets.correct(change)

    assert (settled.status, word) == ("SETTLED", "OK")
    assert int(await store.client.hget("bg:{acme}:meta", "seq")) == seq + 2
