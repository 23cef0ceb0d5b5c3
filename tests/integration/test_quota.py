"""What a team's developer gets of limits, from a real gateway process."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest
from openai import APIStatusError, OpenAI, PermissionDeniedError, RateLimitError

from service.ledger.record import UsageRecord
from service.quota.limits import UNLIMITED, Effort, Limits, Tier
from service.tenants.team import Team
from tests.integration.conftest import Gateway
from tests.integration.fake_engine import COMPLETION, PROMPT, Call, FakeEngine
from tests.integration.test_gateway import CHAT, ask, error_of
from tests.integration.waiting import wait_for

TOKENS = PROMPT + COMPLETION


@pytest.fixture
def team(gateway: Gateway, request: pytest.FixtureRequest) -> str:
    """A team of this test's own."""
    name = f"t-{abs(hash(request.node.nodeid)) % 10**9}"
    gateway.office.add_team(Team(name))
    return name


class Developer:
    """A client of one team. The gateway learns of a change within about a second."""

    def __init__(
        self, gateway: Gateway, name: str, limits: Limits = UNLIMITED, **team: object
    ) -> None:
        self.gateway = gateway
        gateway.office.change_team(Team(name, limits=limits, **team))  # type: ignore[arg-type]
        _, self.token = gateway.office.add_key(name)
        self.http = httpx.Client(
            base_url=gateway.url, headers={"authorization": f"Bearer {self.token}"}, timeout=10
        )
        wait_for(lambda: self.http.get("/v1/quota").status_code == 200)

    def ask(self, model: str = "well", **fields: object) -> httpx.Response:
        return self.http.post(CHAT, json=ask(model, **fields))

    def quota(self, place: str = "team") -> dict[str, dict[str, int]]:
        answer = self.http.get("/v1/quota")
        found: dict[str, dict[str, int]] = answer.json()[place]
        return found

    def settled(self) -> None:
        """Wait until nothing is reserved any more."""
        wait_for(lambda: self.quota()["concurrent_requests"]["used"] == 0)

    @property
    def openai(self) -> OpenAI:
        url = f"{self.gateway.url}/v1"
        return OpenAI(base_url=url, api_key=self.token, max_retries=0, timeout=10)


# --- being told


def test_every_answer_says_what_is_left(gateway: Gateway, team: str) -> None:
    developer = Developer(gateway, team, Limits(rpm=100, tpm=100_000))
    for model, status in (("well", 200), ("answers-400", 400), ("answers-500", 502)):
        answer = developer.ask(model)
        assert answer.status_code == status
        assert answer.headers["x-ratelimit-limit-requests"] == "100"
        assert 95 < int(answer.headers["x-ratelimit-remaining-requests"]) < 100
        assert answer.headers["ratelimit-policy"].startswith('"team-rpm";q=100;w=60')
    stream = developer.ask("well", stream=True)
    assert "x-ratelimit-remaining-tokens" in stream.headers
    for refused in (developer.ask("unknown"), developer.ask("well", priority=1)):
        assert refused.status_code in (400, 404)
        assert refused.headers["x-ratelimit-limit-tokens"] == "100000"


def test_the_quota_page_shows_limits_use_and_resets(gateway: Gateway, team: str) -> None:
    developer = Developer(
        gateway,
        team,
        Limits(rpm=10, daily_tokens=1000, models=("well",)),
        timezone="Asia/Kolkata",
        model_limits={"well": Limits(concurrency=3)},
        tier=Tier.BATCH,
    )
    assert developer.ask().status_code == 200
    developer.settled()
    page = developer.http.get("/v1/quota").json()
    assert (page["team_id"], page["tier"], page["time_zone"]) == (team, "batch", "Asia/Kolkata")
    day = page["team"]["tokens_per_day"]
    assert (day["limit"], day["used"], day["reserved"], day["remaining"]) == (
        1000,
        TOKENS,
        0,
        1000 - TOKENS,
    )
    midnight = datetime.fromisoformat(day["resets_at"]).astimezone(UTC)
    assert (midnight.hour, midnight.minute) == (18, 30)
    assert page["models"].keys() == {"well"}
    assert page["models"]["well"]["concurrent_requests"]["limit"] == 3
    assert page["key"]["tokens_per_day"]["used"] == TOKENS


def test_a_rate_that_is_used_up_is_429_and_says_truly_when_to_come_back(
    gateway: Gateway, team: str
) -> None:
    developer = Developer(gateway, team, Limits(rpm=60))
    answers = (developer.ask() for _ in range(1000))  # it gets one more each second
    refused = next(answer for answer in answers if answer.status_code == 429)
    error = error_of(refused)
    assert error["code"] == "rate_limit_exceeded"
    assert f"team {team} on requests per min (RPM): Limit 60, Used 60" in error["message"]
    wait = int(refused.headers["retry-after-ms"]) / 1000
    assert 0 < wait <= 1
    time.sleep(wait)
    assert developer.ask().status_code == 200


def test_openais_client_retries_a_rate_by_itself_and_never_a_spent_budget(
    gateway: Gateway, team: str, engine: FakeEngine
) -> None:
    developer = Developer(gateway, team, Limits(rpm=60))
    patient = developer.openai.with_options(max_retries=2)
    for _ in range(62):
        patient.chat.completions.create(model="well", messages=[])
    # Room for one request of the size that is estimated at first, and then for some small ones.
    developer = Developer(gateway, team, Limits(daily_tokens=200))
    spent = developer.openai.with_options(max_retries=2)
    calls = len(engine.calls)
    with pytest.raises(RateLimitError) as refusal:
        for _ in range(100):
            spent.chat.completions.create(model="well", messages=[], max_tokens=1)
    assert len(engine.calls) - calls <= 200 // TOKENS
    assert developer.ask(max_tokens=1).status_code == 429
    assert refusal.value.code == "insufficient_quota"
    assert refusal.value.response.headers["x-should-retry"] == "false"


def test_a_refused_request_consumes_nothing_and_reaches_no_engine(
    gateway: Gateway, team: str, engine: FakeEngine
) -> None:
    developer = Developer(gateway, team, Limits(rpm=100, tpm=10))
    calls = len(engine.calls)
    for _ in range(5):
        assert developer.ask(max_tokens=100).status_code == 429
    assert len(engine.calls) == calls
    assert developer.quota()["requests_per_minute"]["used"] == 0
    assert developer.quota()["tokens_per_day"]["used"] == 0


# --- what is allowed at all


def test_a_model_that_the_team_may_not_use_is_403_and_is_not_listed(
    gateway: Gateway, team: str
) -> None:
    developer = Developer(gateway, team, Limits(models=("well",)))
    assert [model.id for model in developer.openai.models.list()] == ["well"]
    with pytest.raises(PermissionDeniedError, match="does not have access to model") as refusal:
        developer.openai.chat.completions.create(model="forever", messages=[])
    assert refusal.value.code == "model_not_found"


def test_a_team_that_is_switched_off_is_403(gateway: Gateway, team: str) -> None:
    developer = Developer(gateway, team)
    gateway.office.change_team(Team(team, disabled=True))
    wait_for(lambda: developer.ask().status_code == 403)
    assert error_of(developer.ask())["code"] == "team_disabled"


def test_limits_that_change_hold_within_seconds(gateway: Gateway, team: str) -> None:
    developer = Developer(gateway, team)
    assert developer.ask(max_tokens=500).status_code == 200
    gateway.office.change_team(Team(team, limits=Limits(max_output=100)))
    wait_for(lambda: developer.ask(max_tokens=500).status_code == 400)


def test_the_engine_gets_the_teams_priority_salt_and_caps_and_nothing_of_the_clients(
    gateway: Gateway, team: str, engine: FakeEngine
) -> None:
    """AIBrix, llm-d, Higress: identity headers that a client can set are believed there."""
    developer = Developer(
        gateway, team, Limits(max_output=64, efforts=(Effort.LOW,)), tier=Tier.BATCH
    )
    spoofed = {
        "x-vllm-priority": "-100",
        "x-request-id": "mine",
        "x-gateway-inference-fairness-id": "other",
        "x-authz-user-id": "root",
        "x-ratelimit-remaining-requests": "1000000",
        "x-data-parallel-rank": "3",
        "user": "other",
    }
    before = len(engine.calls)
    developer.http.post(CHAT, json=ask("well", user="jane"), headers=spoofed)
    (call,) = engine.calls[before:]
    assert call.headers["x-vllm-priority"] == str(Tier.BATCH.priority)
    assert not {"mine", "other", "root", "-100", "1000000", "3"} & set(call.headers.values())
    assert call.body["max_completion_tokens"] == 64
    assert call.body["reasoning_effort"] == "low"
    assert len(call.body["cache_salt"]) == 32
    assert "user" not in call.body
    assert developer.token not in json.dumps(call.headers)


# --- what is charged


@pytest.mark.parametrize(
    ("model", "stream", "tokens"),
    [
        ("well", False, TOKENS),
        ("well", True, TOKENS),
        ("answers-400", False, 0),
        ("answers-500", False, 0),
        ("answers-503", False, 0),
        ("nowhere", False, 0),
        ("dies", True, 0),
        ("silent", True, 0),
        ("dies-midway", True, PROMPT + 1),
        ("silent-midway", True, PROMPT + 1),
        ("ends-early", True, PROMPT + 1),
        ("done-then-silent", True, PROMPT + 1),
    ],
)
def test_every_way_out_is_settled_at_what_the_engine_reported(
    gateway: Gateway, team: str, model: str, stream: bool, tokens: int
) -> None:
    developer = Developer(gateway, team, Limits(concurrency=1, daily_tokens=100_000))
    developer.ask(model, stream=stream)
    developer.settled()
    day = developer.quota()["tokens_per_day"]
    assert (day["used"], day["reserved"]) == (tokens, 0)
    record = ledger_line(gateway, team)
    assert record.prompt_tokens + record.completion_tokens == tokens


def ledger_line(gateway: Gateway, team: str) -> UsageRecord:
    wait_for(lambda: any(record.team == team for record in gateway.office.ledger()))
    (record,) = (record for record in gateway.office.ledger() if record.team == team)
    return record


def test_what_no_engine_worked_on_does_not_count_as_a_request(gateway: Gateway, team: str) -> None:
    developer = Developer(gateway, team, Limits(rpm=2))
    for model in ("answers-400", "answers-503", "nowhere") * 2:
        assert developer.ask(model).status_code != 429
        developer.settled()


@pytest.mark.parametrize("after", [0, 3])
def test_a_client_that_leaves_a_stream_pays_for_what_was_made_until_then(
    gateway: Gateway, team: str, engine: FakeEngine, after: int
) -> None:
    """litellm#14457: free tokens; new-api#5287: too many. Here it is what the engine said last."""
    developer = Developer(gateway, team, Limits(concurrency=1))
    model = "forever" if after else "silent"
    before = len(engine.calls)
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as client:
        body = json.dumps(ask(model, stream=True)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {developer.token}\r\n"
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        received = b""
        while received.count(b"data: ") < after:
            received += client.recv(65536)
        wait_for(lambda: len(engine.calls) > before)
    call: Call = engine.calls[before]
    assert call.closed.wait(5)
    developer.settled()
    record = ledger_line(gateway, team)
    assert record.outcome == "client_gone"
    assert record.settlement == "cut"
    assert record.prompt_tokens == (PROMPT if after else 0)
    assert after <= record.completion_tokens <= call.sent
    assert developer.quota()["tokens_per_day"]["used"] == (
        record.prompt_tokens + record.completion_tokens
    )


def test_a_client_whose_limit_is_one_request_at_a_time_may_ask_again_at_once(
    gateway: Gateway, team: str
) -> None:
    """litellm#20256: a slot that outlives its answer refuses a client that did nothing wrong."""
    developer = Developer(gateway, team, Limits(concurrency=1))
    for number in range(100):
        assert developer.ask(stream=bool(number % 2)).status_code == 200


def test_no_more_requests_run_at_a_time_than_allowed(gateway: Gateway, team: str) -> None:
    developer = Developer(gateway, team, Limits(concurrency=3))
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: developer.ask("silent"), range(12)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses.count(429) == 9
    developer.settled()
    assert developer.ask().status_code == 200


def test_racing_requests_cannot_overdraw_a_budget(gateway: Gateway, team: str) -> None:
    """litellm#18730: with checks before and charges after, concurrency multiplies a limit."""
    developer = Developer(gateway, team, Limits(rpm=7))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: developer.ask(), range(32)))
    assert sum(answer.status_code == 200 for answer in answers) in (7, 8)  # one may have refilled


def test_a_key_has_limits_of_its_own(gateway: Gateway, team: str) -> None:
    developer = Developer(gateway, team, Limits(rpm=100))
    _, token = gateway.office.add_key(team, Limits(rpm=1))
    client = OpenAI(base_url=f"{gateway.url}/v1", api_key=token, max_retries=0)
    wait_for(lambda: httpx.get(f"{gateway.url}/v1/models", headers=client.auth_headers).is_success)
    client.chat.completions.create(model="well", messages=[])
    with pytest.raises(APIStatusError, match=r"key \w+ of team"):
        client.chat.completions.create(model="well", messages=[])
    assert developer.ask().status_code == 200
