"""The admin API as the gateway process serves it: its own port, its own credential."""

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.integration.fake_engine import COMPLETION, PROMPT, FakeEngine
from tests.integration.test_admin_api import ELSEWHERE, ROUTES, problem
from tests.integration.test_gateway import CHAT, ask, error_of
from tests.integration.test_gateway_process import gateway_env
from tests.integration.waiting import wait_for
from tests.process import GPTOSS, free_port, running

TOKEN = "the-admin-token-of-the-process-0123456789"


@dataclass(frozen=True)
class Served:
    """A gateway with an admin API."""

    admin: httpx.Client
    url: str
    ops: str
    log: Path

    def tenant(self, token: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"x-api-key": token}, timeout=10)


@pytest.fixture(scope="module")
def served(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("admin")
    env = gateway_env(
        home,
        engine.url,
        GPTOSS_ADMIN__TOKEN=TOKEN,
        GPTOSS_ADMIN__PORT=str(free_port()),
        GPTOSS_GATEWAY__UPSTREAMS=f'[{{"model": "well", "url": "{engine.url}"}}]',
        GPTOSS_LEDGER__FLUSH="0.1",
    )
    admin, url, ops = (
        f"http://127.0.0.1:{env[f'GPTOSS_{name}PORT']}"
        for name in ("ADMIN__", "GATEWAY__", "GATEWAY__OPS_")
    )
    headers = {"authorization": f"Bearer {TOKEN}", "x-actor": "ada@example.com"}
    log = home / "log"
    with (
        running([*GPTOSS, "gateway"], env, ready=f"{ops}/livez", log=log),
        httpx.Client(base_url=admin, headers=headers, timeout=10) as client,
    ):
        yield Served(client, url, ops, log)


def new_key(served: Served, team: str, **limits: int) -> tuple[str, str]:
    """A team with a key, made over HTTP: the key's id and its token."""
    made = served.admin.post("/v1/teams", json={"name": team, "limits": limits})
    assert made.status_code == 201
    key = served.admin.post(f"/v1/teams/{team}/keys", json={"label": "tests"}).json()
    return key["id"], key["token"]


def test_a_key_made_over_http_opens_and_a_revoked_one_stops_within_five_seconds(
    served: Served,
) -> None:
    id, token = new_key(served, "search", daily_tokens=1_000_000)
    with served.tenant(token) as tenant:
        wait_for(lambda: tenant.get("/v1/models").status_code == 200, 5)
        assert tenant.post(CHAT, json=ask("well")).status_code == 200
        assert tenant.get("/v1/quota").json()["team"]["tokens_per_day"]["limit"] == 1_000_000

        def tokens() -> int:
            rows = served.admin.get("/v1/usage", params={"team": "search"}).json()["usage"]
            return sum(row["total_tokens"] for row in rows)

        wait_for(lambda: tokens() == PROMPT + COMPLETION)
        assert served.admin.post(f"/v1/keys/{id}/revoke").status_code == 200
        wait_for(lambda: tenant.get("/v1/models").status_code == 401, 5)
        assert error_of(tenant.post(CHAT, json=ask("well")))["code"] == "invalid_api_key"


def test_a_rotated_key_and_a_changed_limit_hold_within_five_seconds(served: Served) -> None:
    id, old = new_key(served, "rotating")
    new = served.admin.post(f"/v1/keys/{id}/rotate", json={"grace_seconds": 0}).json()["token"]
    with served.tenant(old) as before, served.tenant(new) as after:
        wait_for(lambda: after.get("/v1/models").status_code == 200, 5)
        wait_for(lambda: before.get("/v1/models").status_code == 401, 5)
        patch = {"limits": {"max_output": 10}}
        assert served.admin.patch("/v1/teams/rotating", json=patch).status_code == 200
        wait_for(lambda: after.post(CHAT, json=ask("well", max_tokens=11)).status_code == 400, 5)
        assert served.admin.delete("/v1/teams/rotating").json()["revoked_keys"] == 1
        wait_for(lambda: after.get("/v1/models").status_code == 401, 5)


def test_the_routes_of_the_admin_api_are_on_its_port_alone(served: Served) -> None:
    _, token = new_key(served, "curious")
    with httpx.Client(timeout=10) as anybody:
        for credential in (token, TOKEN, None):
            headers = {"authorization": f"Bearer {credential}"} if credential else {}
            for method, path in ROUTES:
                for url in (served.url, served.ops):
                    assert anybody.request(method, url + path, headers=headers).status_code == 404
    for path in (CHAT, "/v1/models", "/v1/quota", "/livez", "/metrics"):
        assert served.admin.get(path).status_code == 404


def test_each_credential_opens_its_own_port_alone(served: Served, engine: FakeEngine) -> None:
    _, token = new_key(served, "tenant")
    calls = len(engine.calls)
    with served.tenant(token) as tenant:
        wait_for(lambda: tenant.get("/v1/models").status_code == 200, 5)
    stranger = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=served.admin.base_url, headers=stranger) as tenant:
        for method, path in ROUTES + ELSEWHERE:
            problem(tenant.request(method, path), 401)
    with served.tenant(TOKEN) as admin:
        for answer in (admin.get("/v1/models"), admin.post(CHAT, json=ask("well"))):
            assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")
    assert len(engine.calls) == calls


@pytest.mark.parametrize("head", ["host: x/v1/teams\r\n", "host: x\r\nhost: y\r\n", ""])
def test_malformed_http_is_refused_here_too(served: Served, head: str) -> None:
    """CVE-2026-48710: Starlette builds URLs from the Host header."""
    where = ("127.0.0.1", served.admin.base_url.port)
    with socket.create_connection(where, 5) as connection:
        request = f"GET /v1/teams HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\n{head}\r\n"
        connection.sendall(request.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_every_change_is_in_the_audit_and_no_secret_is_there_or_in_the_log(served: Served) -> None:
    id, token = new_key(served, "audited", rpm=60)
    served.admin.patch("/v1/teams/audited", json={"limits": {"rpm": 600}})
    served.admin.post(f"/v1/keys/{id}/revoke")
    page = served.admin.get("/v1/audit", params={"limit": 4})
    entries = [(e["actor"], e["action"], e["subject"]) for e in reversed(page.json()["entries"])]
    ada = "admin-api:ada@example.com"
    assert entries == [
        (ada, "team.create", "audited"),
        (ada, "key.create", id),
        (ada, "team.change", "audited"),
        (ada, "key.revoke", id),
    ]
    changed = page.json()["entries"][1]["change"]
    assert changed == {"limits.rpm": [60, 600]}
    for text in (served.admin.get("/v1/audit").text, served.log.read_text()):
        for secret in (token, token.rsplit("_", 1)[1], TOKEN, "cache_salt", "digest"):
            assert secret not in text
    assert not re.search("Traceback", served.log.read_text())


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = str(holder.getsockname()[1])
        secret = {"GPTOSS_ADMIN__TOKEN": TOKEN, "GPTOSS_ADMIN__PORT": taken}
        env = gateway_env(tmp_path, "http://127.0.0.1:9", **secret)
        ended = subprocess.run(
            [*GPTOSS, "gateway"], env=env, capture_output=True, text=True, timeout=30, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == (
        f"gptoss: 127.0.0.1:{taken} is taken: stop what listens there, or set"
        " GPTOSS_ADMIN__PORT to another port\n"
    )


def test_without_a_token_there_is_no_admin_api(tmp_path: Path) -> None:
    port = free_port()
    off = {"GPTOSS_ADMIN__TOKEN": "", "GPTOSS_ADMIN__PORT": str(port)}
    env = gateway_env(tmp_path, "http://127.0.0.1:9", **off)
    ready = f"http://127.0.0.1:{env['GPTOSS_GATEWAY__OPS_PORT']}/livez"
    with running([*GPTOSS, "gateway"], env, ready=ready, log=tmp_path / "log"):
        with pytest.raises(ConnectionRefusedError), contextlib.closing(socket.socket()) as probe:
            probe.connect(("127.0.0.1", port))
        api = f"http://127.0.0.1:{env['GPTOSS_GATEWAY__PORT']}"
        assert httpx.get(f"{api}/v1/teams").status_code == 404
