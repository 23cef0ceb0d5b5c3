"""What one admitted request uses: read while it is answered, and settled exactly once."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from service.gateway.policy import Asked
from service.gateway.ratelimit import Header
from service.gateway.routes import Dialect
from service.gateway.usage import Meter, Usage
from service.ledger.record import Settlement
from service.quota.reservation import Reservation
from service.tenants.principal import Principal

# Ends of which the client, or nobody but us, is the cause.
_NOT_THE_ENGINE = frozenset({"client_gone", "client_stalled", "gateway_shutdown"})
_NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Bill:
    """The end of a tab: what is charged, and how that is known."""

    tab: "Tab"
    outcome: str
    settlement: Settlement
    usage: Usage


class Tab:
    """One admitted request.

    `headers` tell the client what is left of its limits. `pace` is how many tokens an answer has
    after that many seconds. `pay` gets the bill.
    """

    def __init__(
        self,
        principal: Principal,
        asked: Asked,
        reservation: Reservation,
        headers: list[Header],
        pace: Callable[[float], int],
        pay: Callable[[Bill], None],
    ) -> None:
        self.principal = principal
        self.asked = asked
        self.reservation = reservation
        self.headers = headers
        self.meter = self._new_meter()
        self.bill: Bill | None = None
        """Set once it is closed."""
        self._started = time.perf_counter()
        self._pace = pace
        self._pay: Callable[[Bill], None] | None = pay

    @property
    def spent(self) -> int:
        """Tokens that an engine has worked off so far, as far as it has said."""
        usage = self.meter.usage or _NOTHING
        return usage.prompt + usage.completion

    def restart(self) -> None:
        """Another replica begins the answer anew: what the last one used is not the client's."""
        self.meter = self._new_meter()

    def _new_meter(self) -> Meter:
        asked = self.asked
        return Meter(asked.route.dialect, asked.shown, asked.choices, asked.prompts)

    @property
    def seconds(self) -> float:
        """Since the request was admitted."""
        return time.perf_counter() - self._started

    def close(self, outcome: str) -> None:
        """Settle. Only the first call counts.

        It is made before a client sees the end of its answer, so that one whose limit is a single
        request at a time may ask again at once.
        """
        pay, self._pay = self._pay, None
        if pay is not None:
            settlement, usage = self._concluded(outcome)
            self.bill = Bill(self, outcome, settlement, usage)
            pay(self.bill)

    def _concluded(self, outcome: str) -> tuple[Settlement, Usage]:
        meter, asked = self.meter, self.asked
        reported = meter.usage or _NOTHING
        if not meter.worked:
            return Settlement.REFUNDED, _NOTHING
        if meter.final or asked.route.counts_only:
            return Settlement.EXACT, reported
        if outcome == "ok" and meter.usage is None:
            return self._estimated()  # a whole answer of an engine that does not say
        if asked.stream and asked.route.dialect is Dialect.OPENAI:
            # Before its first chunk the engine has not finished the prompt, nor counted it.
            return Settlement.CUT, reported
        if outcome not in _NOT_THE_ENGINE:
            return Settlement.CUT, reported  # the engine failed: that is not the client's to pay
        return self._estimated()

    def _estimated(self) -> tuple[Settlement, Usage]:
        meter, asked, reserved = self.meter, self.asked, self.reservation
        reported = meter.usage or _NOTHING
        prompt = reported.prompt or reserved.prompt
        if asked.stream:
            return Settlement.ESTIMATED, Usage(prompt, meter.pieces)
        # The engine was at work on an answer in one piece, and does not say how far it got.
        made = self._pace(self.seconds) * asked.choices * asked.prompts
        return Settlement.ESTIMATED, Usage(prompt, min(made, reserved.output))
