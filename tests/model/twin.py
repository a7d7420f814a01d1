"""The twin: every call runs on the model at once and on a store soon after, and both agree.

Calls wait in a batch, because nothing waits for their replies: the walk goes on by what the
model answered, and a store that answers otherwise is found when the batch is played.
"""

from collections import Counter
from typing import Any

from gateway.budgets.keys import EXPIRY, JOURNAL, org_key, spend_keys
from gateway.budgets.scripts import Form, Scripts, load_scripts
from tests.lua.store import FROZEN_CLOCK
from tests.model.budgets import Answer
from tests.model.calls import ORG, Call, Expire, Extend, Inspect, script_name
from tests.model.org import ENTRY_FIELDS, Org
from tests.model.stores import CLOCK_KEY, Command, Store
from tests.model.verbs import run

SCRIPTS: Scripts = load_scripts(FROZEN_CLOCK)
# What only saves the scripts time; the answers are compared, whatever they remember.
_MEMORY = ("limits", "chain", "running", "until")


class Difference(AssertionError):
    """The model and the store differ; the message shows where."""


class Twin:
    """An org in the model and in a store; ``batch_max`` calls wait before they are compared."""

    def __init__(self, store: Store, now_ms: int, batch_max: int) -> None:
        self.store = store
        self.org = Org(now_ms)
        self.steps = 0
        # How often each verb gave each answer; of expire, what became of each id.
        self.met: Counter[tuple[str, str]] = Counter()
        self._batch_max = batch_max
        self._commands: list[Command] = [("FLUSHDB",)]
        self._expected: list[tuple[int, int, Call, Answer]] = []
        self.at(now_ms)
        self.command("HSET", org_key(ORG, "meta"), "schema", "1")

    def command(self, *command: str | int) -> None:
        """Write to the store what an operator writes; the model was told already."""
        self._commands.append(command)

    def at(self, now_ms: int) -> None:
        """Move the clock of both."""
        self.command("SET", CLOCK_KEY, now_ms)
        gone = self.org.at(now_ms)
        if gone:
            # On fakeredis they have left by now, and KEYS makes it see that.
            self.command("KEYS", "-")
            self.command("DEL", *gone)

    def rewrite(self) -> None:
        """Let the store hold what the model holds, and nothing else."""
        # What only saves time is not written: the next reserve looks at each window again.
        self.org.running_proposal = ""
        self.command("FLUSHDB")
        self.command("SET", CLOCK_KEY, self.org.now_ms)
        for key, value in self.org.contents().items():
            self._commands += _writes(key, value)
        for key, (at_ms, ttl_ms) in self.org.leaves.items():
            is_span = ttl_ms and self.store.has_own_clock
            self.command(*(("PEXPIRE", key, ttl_ms) if is_span else ("PEXPIREAT", key, at_ms)))

    def call(self, call: Call) -> list[Any]:
        """Run a call, and return the reply of the model as the store would write it."""
        answer = run(self.org, call)
        words = answer[1:-2] if isinstance(call, Expire) and answer[0] == "EXPIRED" else answer[:1]
        self.met.update((script_name(call), str(word)) for word in words)
        source = getattr(SCRIPTS, script_name(call))[1 if self.store.is_flagged else 2]
        keys = call.keys()
        self._expected.append((len(self._commands), self.steps, call, answer))
        self._commands.append(("EVALSHA", source.sha, len(keys), *keys, *call.args()))
        if isinstance(call, Extend) and self.store.has_own_clock:
            # It keeps counters until an instant that is past for the walk only.
            left = {window for window in call.windows.split(",") if window not in self.org.spend}
            self._commands += [("DEL", *spend_keys(ORG, window)) for window in sorted(left)]
        if len(self._expected) >= self._batch_max:
            self.play()
        return [part.encode() if isinstance(part, str) else part for part in answer]

    def play(self) -> None:
        """Run what waits on the store, and compare every reply.

        Raises:
            Difference: a reply is another one.
        """
        replies = self.store.run(self._commands)
        for place, step, call, answer in self._expected:
            reply = _read(call, replies[place])
            if reply != answer:
                raise Difference(
                    f"The answers differ at step {step}:\n  {call}\n"
                    f"  the model  {answer}\n  the store  {reply}"
                )
        self._commands, self._expected = [], []

    def check(self) -> None:
        """Compare all that the store holds, and how long it is kept.

        Raises:
            Difference: a key, a field, an entry or a time to live is another one.
        """
        self.play()
        expected = self.org.contents()
        [names] = self.store.run([("KEYS", "bg:*")])
        keys = sorted({name.decode() for name in names} | set(expected))
        found = self.store.run([_look(key) for key in keys] + [("PTTL", key) for key in keys])
        for key, value, left_ms in zip(keys, found, found[len(keys) :], strict=False):
            kept = _texts(key, value)
            if kept != expected.get(key):
                raise Difference(_shown(self.steps, key, expected.get(key), kept))
            leave = self.org.leaves.get(key)
            lasts = left_ms == -1 if leave is None else self._lasts(left_ms, *leave)
            if not lasts:
                raise Difference(_shown(self.steps, f"the life of {key}", leave, left_ms))

    def _lasts(self, left_ms: int, at_ms: int, ttl_ms: int) -> bool:
        return self.store.lasts(left_ms, self.org.now_ms, at_ms, ttl_ms)


def load(store: Store) -> None:
    """Load every script into a store."""
    form: Form = 1 if store.is_flagged else 2
    store.run([("SCRIPT", "LOAD", script[form].text) for script in SCRIPTS])


def _read(call: Call, reply: Any) -> Any:
    if not isinstance(reply, list):
        return reply
    texts: Answer = [part.decode() if isinstance(part, bytes) else part for part in reply]
    if not isinstance(call, Inspect):
        return texts
    # Fields have no order, and the id of the last entry is the store's own.
    sorted_texts: Answer = ["OK", ""]
    at = 2
    for _ in call.windows.split(","):
        count = 2 * int(texts[at])
        pairs = texts[at + 1 : at + 1 + count]
        fields = sorted(zip(pairs[::2], pairs[1::2], strict=True))
        sorted_texts += [texts[at], *(part for field in fields for part in field)]
        at += count + 1
    return sorted_texts + texts[at:]


def _look(key: str) -> Command:
    if key == EXPIRY:
        return ("ZRANGE", key, 0, -1, "WITHSCORES")
    if key == JOURNAL:
        return ("XRANGE", key, "-", "+")
    kind = key.removeprefix(org_key(ORG, "")).partition(":")[0]
    return ("GET", key) if kind in ("done", "applied", "idem") else ("HGETALL", key)


def _writes(key: str, value: Any) -> list[Command]:
    if key == JOURNAL:
        names = ("v", *ENTRY_FIELDS)
        entries = [zip(names, ("1", *entry), strict=True) for entry in value]
        return [("XADD", key, "*", *(word for pair in pairs for word in pair)) for pairs in entries]
    if key == EXPIRY:
        return [("ZADD", key, score, member) for member, score in value.items()]
    if isinstance(value, dict):
        return [("HSET", key, *(word for pair in value.items() for word in pair))]
    return [("SET", key, value)]


def _texts(key: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if key == JOURNAL:
        return [_entry(fields) for _, fields in value]
    if isinstance(value, list):
        pairs = [*zip(value[::2], value[1::2], strict=True)]
        value = dict(pairs if not value or isinstance(value[0], bytes) else value)
    if not isinstance(value, dict):
        return value
    texts = {name.decode(): _text(text) for name, text in value.items()}
    if key == org_key(ORG, "meta"):
        texts = {name: text for name, text in texts.items() if name not in _MEMORY}
    return texts or None


def _text(value: bytes | float) -> str:
    return value.decode() if isinstance(value, bytes) else str(int(value))


def _entry(fields: Any) -> tuple[str, ...]:
    flat = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    texts = {name.decode(): text.decode() for name, text in flat.items()}
    assert texts.pop("v") == "1"
    assert set(texts) == set(ENTRY_FIELDS)
    return tuple(texts[name] for name in ENTRY_FIELDS)


def _shown(step: int, what: str, expected: Any, found: Any) -> str:
    if isinstance(expected, dict) and isinstance(found, dict):
        names = {name for name in {*expected, *found} if expected.get(name) != found.get(name)}
        expected = {name: expected.get(name) for name in names}
        found = {name: found.get(name) for name in names}
    if isinstance(expected, list) and isinstance(found, list):
        same = sum(1 for _ in _shared(expected, found))
        expected, found = expected[same : same + 2], found[same : same + 2]
    return f"After step {step} {what} differs:\n  the model  {expected}\n  the store  {found}"


def _shared(one: list[Any], other: list[Any]) -> Any:
    for left, right in zip(one, other, strict=False):
        if left != right:
            return
        yield left
