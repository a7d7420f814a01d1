"""The bill of the upstream: what it has run, by the mark that each caller puts on its call."""

import random
from decimal import Decimal

from tests.stub_upstream import Received
from tests.upstream_answers import Answering, bytes_answer, sse_answer

CEILING_MICROCENTS = 5_000_000
MARK = "x-campaign-mark"


class Bill:
    """Answers calls; ``cost_of_mark`` has what each one that was run has cost, in microcents."""

    def __init__(self, seed: int = 1) -> None:
        self.cost_of_mark: dict[str, int] = {}
        self._chance = random.Random(seed)

    def answer(self, received: Received) -> Answering:
        """Run a call: it costs anything up to its ceiling."""
        mark = (received.header(MARK.encode()) or b"").decode()
        cost = self._chance.randrange(CEILING_MICROCENTS + 1)
        self.cost_of_mark[mark] = cost
        if received.path.startswith(b"/stream"):
            usd = f"{Decimal(cost).scaleb(-8):f}"
            # As text, because a number would be written with an exponent.
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "cost": usd}
            return sse_answer({"text": "hello"}, {"usage": usage}, "[DONE]")
        cents = f"{Decimal(cost).scaleb(-6):f}"
        return bytes_answer(b'{"ok":true}', headers={"budget-cost": cents})
