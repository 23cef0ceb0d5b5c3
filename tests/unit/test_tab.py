"""What a request is charged, by how it ended and by what the engine had said until then."""

import pytest

from service.gateway.policy import Asked
from service.gateway.routes import INFERENCE
from service.gateway.tab import Bill, Tab
from service.gateway.usage import Shown, Usage
from service.ledger.record import Settlement
from service.quota.calendar import Window, Windows
from service.quota.limits import UNLIMITED
from service.quota.reservation import Reservation
from service.tenants.principal import Principal
from service.tenants.team import Team

ROUTES = {route.name: route for route in INFERENCE.values()}
WINDOWS = Windows(Window("2026-08-22", 1), Window("2026-08", 1))
PROMPT, OUTPUT, MADE = 50, 100, 30
CHUNK = b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":9,"completion_tokens":4}}\n\n'
LAST = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5}}\n\n'
START = b'event: message_start\ndata: {"message":{"usage":{"input_tokens":9}}}\n\n'
PIECE = b"event: content_block_delta\ndata: {}\n\n"


def bill(route: str, stream: bool, said: bytes, outcome: str, *, worked: bool = True) -> Bill:
    bills: list[Bill] = []
    asked = Asked(ROUTES[route], "m", stream, 1, None, 1, None, Shown.NONE, 10)
    reservation = Reservation("r", "search", (), WINDOWS, PROMPT, OUTPUT)
    who = Principal("abc", Team("search"), UNLIMITED)
    tab = Tab(who, asked, reservation, [], lambda _: MADE, bills.append)
    tab.meter.worked = worked
    if stream:
        tab.meter.feed(said)
    else:
        tab.meter.answer(said)
    tab.close(outcome)
    tab.close("ok")  # only the first counts
    (only,) = bills
    return only


@pytest.mark.parametrize(
    ("route", "stream", "said", "outcome", "settlement", "usage"),
    [
        ("chat", True, CHUNK + LAST, "ok", Settlement.EXACT, Usage(9, 5)),
        ("chat", True, CHUNK + LAST, "client_gone", Settlement.EXACT, Usage(9, 5)),
        ("chat", True, CHUNK, "client_gone", Settlement.CUT, Usage(9, 4)),
        ("chat", True, CHUNK, "client_stalled", Settlement.CUT, Usage(9, 4)),
        ("chat", True, CHUNK, "gateway_shutdown", Settlement.CUT, Usage(9, 4)),
        ("chat", True, CHUNK, "engine_disconnected", Settlement.CUT, Usage(9, 4)),
        ("chat", True, b"", "client_gone", Settlement.CUT, Usage()),
        ("chat", True, b"", "engine_timeout", Settlement.CUT, Usage()),
        ("chat", False, b'{"usage":{"prompt_tokens":9}}', "ok", Settlement.EXACT, Usage(9, 0)),
        ("chat", False, b"", "client_gone", Settlement.ESTIMATED, Usage(PROMPT, MADE)),
        ("chat", False, b"", "engine_disconnected", Settlement.CUT, Usage()),
        ("chat", False, b"{}", "ok", Settlement.ESTIMATED, Usage(PROMPT, MADE)),
        ("messages", True, START + PIECE * 3, "client_gone", Settlement.ESTIMATED, Usage(9, 3)),
        ("responses", True, b"", "client_gone", Settlement.ESTIMATED, Usage(PROMPT, 0)),
        ("count_tokens", False, b'{"input_tokens": 9}', "ok", Settlement.EXACT, Usage()),
    ],
)
def test_a_request_is_charged_what_is_known(
    route: str, stream: bool, said: bytes, outcome: str, settlement: Settlement, usage: Usage
) -> None:
    found = bill(route, stream, said, outcome)
    assert (found.settlement, found.usage) == (settlement, usage)


@pytest.mark.parametrize("outcome", ["ok", "client_gone", "engine_unavailable", "engine_error"])
def test_what_no_engine_worked_on_is_free(outcome: str) -> None:
    found = bill("chat", True, b"", outcome, worked=False)
    assert (found.settlement, found.usage) == (Settlement.REFUNDED, Usage())
