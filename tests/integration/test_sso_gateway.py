"""Single sign-on at the gateway process: a token of the issuer works as a key does."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.quota.limits import Limits
from service.tenants.team import Team
from tests.integration.fake_engine import COMPLETION, PROMPT, FakeEngine
from tests.integration.test_gateway import CHAT, ask, error_of
from tests.integration.test_gateway_process import gateway_env
from tests.integration.test_sso import Issuer
from tests.integration.waiting import wait_for
from tests.office import Office
from tests.process import GPTOSS, running

TOKENS = PROMPT + COMPLETION


@dataclass(frozen=True)
class SignedIn:
    """A gateway with single sign-on, whose issuer can be stopped."""

    url: str
    office: Office
    issuer: Issuer
    stop_issuer: Callable[[], object]
    log: Path

    def client(self, token: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=10)


@pytest.fixture(scope="module")
def signed_in(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedIn]:
    home = tmp_path_factory.mktemp("sso")
    office = Office.at(home / "state")
    office.add_team(Team("search", limits=Limits(max_output=100, models=("well", "silent"))))
    office.add_team(Team("narrow", limits=Limits(rpm=1)))
    office.add_team(Team("off", disabled=True))
    issuer = Issuer()
    env = gateway_env(
        home,
        engine.url,
        GPTOSS_GATEWAY__UPSTREAMS=json.dumps(
            [{"model": name, "url": engine.url} for name in ("well", "silent", "forever")]
        ),
        GPTOSS_SSO__ISSUER=issuer.url,
        GPTOSS_SSO__AUDIENCE="gptoss",
        GPTOSS_LEDGER__FLUSH="0.1",
    )
    url, ops = (
        f"http://127.0.0.1:{env[f'GPTOSS_GATEWAY__{name}']}" for name in ("PORT", "OPS_PORT")
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(issuer.listening())
        ready = f"{ops}/livez"
        with running([*GPTOSS, "gateway"], env, ready=ready, log=home / "log"):
            yield SignedIn(url, office, issuer, stack.close, home / "log")


def status(signed_in: SignedIn, token: str) -> int:
    with signed_in.client(token) as client:
        return client.get("/v1/models").status_code


def test_a_token_of_the_issuer_is_served_and_its_use_is_in_the_ledger(signed_in: SignedIn) -> None:
    with signed_in.client(signed_in.issuer.token()) as client:
        assert [card["id"] for card in client.get("/v1/models").json()["data"]] == [
            "well",
            "silent",
        ]
        for stream in (False, True):
            assert client.post(CHAT, json=ask("well", stream=stream)).status_code == 200
        quota = client.get("/v1/quota").json()
        assert quota["team_id"] == "search"
        assert quota["key_id"].startswith("sso:")
        assert quota["key"]["tokens_per_day"]["used"] == 2 * TOKENS
    lines = signed_in.office.ledger
    wait_for(lambda: sum(line.key == quota["key_id"] for line in lines()) == 2)
    mine = [line for line in lines() if line.key == quota["key_id"]]
    assert {line.team for line in mine} == {"search"}
    assert sum(line.prompt_tokens + line.completion_tokens for line in mine) == 2 * TOKENS


def test_who_signs_in_anew_is_the_same_and_somebody_else_is_not(signed_in: SignedIn) -> None:
    ids = []
    for token in (
        signed_in.issuer.token(jti="first"),
        signed_in.issuer.token(jti="second"),
        signed_in.issuer.token(sub="ben"),
    ):
        with signed_in.client(token) as client:
            ids.append(client.get("/v1/quota").json()["key_id"])
    assert ids[0] == ids[1] != ids[2]


def test_the_limits_of_the_team_hold(signed_in: SignedIn) -> None:
    with signed_in.client(signed_in.issuer.token()) as client:
        assert client.post(CHAT, json=ask("well", max_tokens=101)).status_code == 400
        assert client.post(CHAT, json=ask("forever")).status_code == 403
    # They are the team's: two who share it share them.
    asked = []
    for name in ("ann", "ben"):
        with signed_in.client(signed_in.issuer.token(sub=name, gptoss_team="narrow")) as client:
            asked.append(client.post(CHAT, json=ask("well")))
    assert [answer.status_code for answer in asked] == [200, 429]
    assert "team narrow" in error_of(asked[1])["message"]
    assert int(asked[1].headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://elsewhere.example"},
        {"aud": "another-service"},
        {"exp": 1},
        {"nbf": 4_000_000_000},
        {"sub": ""},
    ],
)
def test_a_token_that_is_not_for_us_is_401(
    signed_in: SignedIn, engine: FakeEngine, changes: dict[str, Any]
) -> None:
    calls = len(engine.calls)
    with signed_in.client(signed_in.issuer.token(**changes)) as client:
        answer = client.post(CHAT, json=ask("well"))
    assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")
    assert len(engine.calls) == calls


def test_a_token_of_another_issuer_or_with_a_changed_signature_is_401(signed_in: SignedIn) -> None:
    foreign = Issuer()
    assert status(signed_in, foreign.token(iss=signed_in.issuer.url)) == 401
    good = signed_in.issuer.token()
    head, body, signature = good.split(".")
    other = signed_in.issuer.token(sub="eve").split(".")[1]
    for forged in (f"{head}.{other}.{signature}", f"{head}.{body}.{signature[::-1]}"):
        assert status(signed_in, forged) == 401
    assert status(signed_in, good) == 200


@pytest.mark.parametrize("claim", ["nobody", "", None, 7, ["search", "narrow"]])
def test_a_good_token_that_leads_to_no_one_team_is_403(signed_in: SignedIn, claim: object) -> None:
    with signed_in.client(signed_in.issuer.token(gptoss_team=claim)) as client:
        answer = client.post(CHAT, json=ask("well"))
    assert (answer.status_code, error_of(answer)["code"]) == (403, "no_team")


def test_a_team_that_is_switched_off_is_403(signed_in: SignedIn) -> None:
    with signed_in.client(signed_in.issuer.token(gptoss_team="off")) as client:
        answer = client.post(CHAT, json=ask("well"))
    assert (answer.status_code, error_of(answer)["code"]) == (403, "team_disabled")


def test_a_key_works_beside_single_sign_on(signed_in: SignedIn) -> None:
    _, token = signed_in.office.add_key("search")
    wait_for(lambda: status(signed_in, token) == 200)


def test_it_goes_on_when_the_issuer_dies_and_no_token_is_in_the_log(signed_in: SignedIn) -> None:
    known, new = signed_in.issuer.token(), signed_in.issuer.token(sub="after")
    assert status(signed_in, known) == 200
    signed_in.stop_issuer()
    with pytest.raises(httpx.ConnectError):
        httpx.get(signed_in.issuer.url)
    assert status(signed_in, known) == 200
    assert status(signed_in, new) == 200
    signed_in.issuer.add("unpublished")
    assert status(signed_in, signed_in.issuer.token("unpublished")) == 401
    log = signed_in.log.read_text()
    for token in (known, new):
        assert not any(part in log for part in token.split("."))
    assert "Traceback" not in log
