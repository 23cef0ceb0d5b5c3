"""The admin API, served by uvicorn over a real database."""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from service.admin.app import create_app
from service.admin.guard import MAX_BODY_BYTES
from service.database.connect import Database
from service.database.opened import open_database
from service.errors import UserError
from service.settings import Settings
from service.tenants.directory import Directory
from service.tenants.team import Team
from tests.process import free_port

TOKEN = "the-admin-token-of-the-tests-0123456789"
SEARCH = {"name": "search", "tier": "interactive", "limits": {"rpm": 600, "tpm": 2_000_000}}


@dataclass(frozen=True)
class Admin:
    """A running admin API."""

    settings: Settings
    client: httpx.Client
    url: str

    def stored(self) -> tuple[int, list[Team]]:
        """The revision and the teams in the database."""

        async def read() -> tuple[int, list[Team]]:
            async with open_database(self.settings) as database:
                directory = Directory(database)
                return await directory.revision(), await directory.teams()

        return asyncio.run(read())


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    with serving(tmp_path) as admin:
        yield admin


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """One for all tests in which nothing is changed."""
    with serving(tmp_path_factory.mktemp("admin")) as admin:
        yield admin
        assert admin.stored() == (0, [])


@contextlib.contextmanager
def serving(home: Path) -> Iterator[Admin]:
    """An admin API over a database in this folder."""
    settings = Settings(state_dir=home)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    started, servers = threading.Event(), []

    async def serve() -> None:
        async with open_database(settings) as database:
            app = create_app(Directory(database), database, SecretStr(TOKEN))
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
            servers.append(server)
            started.set()
            await server.serve(sockets=[listener])

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(20)
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=url, headers=headers, timeout=10) as client:
        yield Admin(settings, client, url)
    servers[0].should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def problem(answer: httpx.Response, status: int) -> str:
    """The one line of an error."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() == {"title", "status", "detail"}
    assert body["status"] == status
    assert "\n" not in body["detail"]
    return str(body["detail"])


ROUTES = [
    ("GET", "/v1/teams"),
    ("POST", "/v1/teams"),
    ("GET", "/v1/teams/search"),
    ("PUT", "/v1/teams/search"),
    ("PATCH", "/v1/teams/search"),
    ("DELETE", "/v1/teams/search"),
    ("GET", "/v1/teams/search/keys"),
    ("POST", "/v1/teams/search/keys"),
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys/abcdefghijkl/rotate"),
    ("POST", "/v1/keys/abcdefghijkl/revoke"),
    ("GET", "/v1/usage"),
    ("GET", "/v1/audit"),
    ("GET", "/v1/upstreams"),
    ("GET", "/openapi.json"),
]
ELSEWHERE = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/redoc"),
    ("OPTIONS", "/v1/teams"),
    ("GET", "/no/such/path"),
    ("GET", "//v1/teams"),
    ("GET", "/v1/teams/"),
    ("GET", "/v1/%74eams"),
]
WRONG = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": f"Basic {TOKEN}"},
    {"authorization": TOKEN},
    {"authorization": f"Bearer {TOKEN}x"},
    {"authorization": f"Bearer {TOKEN[:-1]}"},
    {"x-api-key": TOKEN},
    {"cookie": f"token={TOKEN}"},
]


def test_nothing_is_reached_without_the_token(empty: Admin) -> None:
    with httpx.Client(base_url=empty.url) as stranger:
        for method, path in ROUTES + ELSEWHERE:
            answer = stranger.request(method, path)
            assert "Authorization: Bearer" in problem(answer, 401), path
            assert answer.headers["www-authenticate"] == "Bearer"


def test_every_route_that_is_described_is_tried_without_the_token(empty: Admin) -> None:
    described = {
        (method.upper(), re.sub(r"{\w+}", "x", path))
        for path, methods in empty.client.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    tried = {(method, re.sub("search|abcdefghijkl", "x", path)) for method, path in ROUTES}
    assert tried - {("GET", "/openapi.json")} == described


@pytest.mark.parametrize("headers", WRONG)
def test_only_the_whole_token_as_bearer_opens(empty: Admin, headers: dict[str, str]) -> None:
    problem(httpx.get(f"{empty.url}/v1/teams", headers=headers), 401)


def test_two_credentials_are_refused(empty: Admin) -> None:
    headers = [("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer other")]
    problem(httpx.get(f"{empty.url}/v1/teams", headers=headers), 401)


@pytest.mark.parametrize("token", ["", "short", "x" * 31])
def test_an_empty_or_weak_token_is_refused_at_the_start(token: str) -> None:
    database = Database("sqlite://")
    with pytest.raises(UserError, match=r"GPTOSS_ADMIN__TOKEN has \d+ characters: use 32"):
        create_app(Directory(database), database, SecretStr(token))


def test_the_pages_that_load_scripts_from_elsewhere_are_off(empty: Admin) -> None:
    for path in ("/docs", "/redoc"):
        problem(empty.client.get(path), 404)


def test_the_description_names_the_credential_and_what_comes_back(empty: Admin) -> None:
    document = empty.client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for methods in document["paths"].values():
        for route in methods.values():
            assert route["security"] == [{"HTTPBearer": []}]
            assert route["description"]
            assert {"401", "404", "409", "422"} <= route["responses"].keys()


def test_a_team_is_made_read_changed_and_deleted(admin: Admin) -> None:
    made = admin.client.post("/v1/teams", json=SEARCH)
    assert made.status_code == 201
    assert made.json()["limits"]["tpm"] == 2_000_000
    assert admin.client.get("/v1/teams/search").json() == made.json()

    change = {"limits": {"rpm": 900, "tpm": None}, "models": {"gpt-oss-120b": {"concurrency": 8}}}
    patched = admin.client.patch("/v1/teams/search", json=change).json()
    assert (patched["limits"]["rpm"], patched["limits"]["tpm"]) == (900, None)
    assert patched["models"]["gpt-oss-120b"]["concurrency"] == 8
    assert patched["tier"] == "interactive"

    lifted = admin.client.patch("/v1/teams/search", json={"models": {"gpt-oss-120b": None}}).json()
    assert lifted["models"] == {}

    replaced = admin.client.put("/v1/teams/search", json={"timezone": "Europe/Berlin"}).json()
    assert (replaced["tier"], replaced["timezone"]) == ("standard", "Europe/Berlin")
    assert replaced["limits"]["rpm"] is None

    admin.client.post("/v1/teams/search/keys")
    deleted = admin.client.delete("/v1/teams/search")
    assert deleted.json() == {"name": "search", "revoked_keys": 1}
    problem(admin.client.get("/v1/teams/search"), 404)
    assert admin.client.get("/v1/teams").json() == {"teams": []}


def test_a_team_that_is_changed_keeps_its_cache_salt(admin: Admin) -> None:
    admin.client.post("/v1/teams", json=SEARCH)
    [before] = admin.stored()[1]
    admin.client.put("/v1/teams/search", json={"tier": "batch"})
    admin.client.patch("/v1/teams/search", json={"tier": "standard"})
    [after] = admin.stored()[1]
    assert after.cache_salt == before.cache_salt


def test_a_change_to_what_is_so_already_writes_nothing(admin: Admin) -> None:
    admin.client.post("/v1/teams", json=SEARCH)
    before, _ = admin.stored()
    assert admin.client.put("/v1/teams/search", json={**SEARCH, "name": None}).status_code == 422
    body = {name: value for name, value in SEARCH.items() if name != "name"}
    assert admin.client.put("/v1/teams/search", json=body).status_code == 200
    assert admin.client.patch("/v1/teams/search", json={}).status_code == 200
    assert admin.stored()[0] == before


def test_what_does_not_exist_or_exists_already_says_so(admin: Admin) -> None:
    for method, path in [
        ("GET", "/v1/teams/nobody"),
        ("DELETE", "/v1/teams/nobody"),
        ("GET", "/v1/teams/nobody/keys"),
        ("POST", "/v1/teams/nobody/keys"),
        ("POST", "/v1/keys/abcdefghijkl/rotate"),
        ("POST", "/v1/keys/abcdefghijkl/revoke"),
        ("GET", "/v1/keys?team=nobody"),
        ("GET", "/v1/teams/"),
        ("GET", "/v2/teams"),
    ]:
        problem(admin.client.request(method, path), 404)
    for method in ("PUT", "PATCH"):
        problem(admin.client.request(method, "/v1/teams/nobody", json={}), 404)
    admin.client.post("/v1/teams", json=SEARCH)
    assert "team search exists" in problem(admin.client.post("/v1/teams", json=SEARCH), 409)
    problem(admin.client.delete("/v1/keys"), 405)


MALFORMED = {
    b"": "body: ",
    b"{": "the body is not JSON",
    b"[]": "body: ",
    b'{"name": "a", "salt": 1}': "salt: there is no such name",
    b'{"name": "a", "cache_salt": "mine"}': "cache_salt: there is no such name",
    b'{"name": "A"}': "name: ",
    b'{"name": "a\\n"}': "name: ",
    b'{"name": "a", "limits": {"rmp": 1}}': "limits.rmp: there is no such name",
    b'{"name": "a", "limits": {"rpm": 0}}': "limits.rpm: ",
    b'{"name": "a", "limits": {"rpm": true}}': "limits.rpm: ",
    b'{"name": "a", "limits": {"rpm": "2M"}}': "limits.rpm: ",
    b'{"name": "a", "limits": {"rpm": 1e400}}': "limits.rpm: ",
    b'{"name": "a", "limits": {"models": []}}': "limits.models: ",
    b'{"name": "a", "models": {"m": {"models": ["x"]}}}': "models.m.models: ",
    b'{"name": "a", "timezone": "Mars"}': "timezone: no time zone is called 'Mars'",
    b'{"name": "a", "tier": "fast"}': "tier: ",
}


@pytest.mark.parametrize(("body", "detail"), MALFORMED.items())
def test_a_body_that_is_not_as_described_is_one_line(
    empty: Admin, body: bytes, detail: str
) -> None:
    headers = {"content-type": "application/json"}
    answer = empty.client.post("/v1/teams", content=body, headers=headers)
    assert problem(answer, 422).startswith(detail)


@pytest.mark.parametrize(
    "patch", [{"limits": {"rmp": None}}, {"limits": {"rpm": 0}}, {"tier": 5}, {"timezone": "Mars"}]
)
def test_a_patch_that_is_not_as_described_changes_nothing(admin: Admin, patch: object) -> None:
    admin.client.post("/v1/teams", json=SEARCH)
    before = admin.stored()
    problem(admin.client.patch("/v1/teams/search", json=patch), 422)
    assert admin.stored() == before


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused(empty: Admin, chunked: bool) -> None:
    body = b'{"name": "%s"}' % (b"a" * MAX_BODY_BYTES)
    content = iter([body[:1000], body[1000:]]) if chunked else body
    headers = {"content-type": "application/json"}
    answer = empty.client.post("/v1/teams", content=content, headers=headers)
    assert "larger than 65536 bytes" in problem(answer, 413)


def test_the_token_of_a_key_is_in_the_answer_that_makes_it_and_no_other(admin: Admin) -> None:
    admin.client.post("/v1/teams", json=SEARCH)
    ends = (datetime.now(UTC) + timedelta(days=90)).isoformat()
    body = {"label": "ci", "expires": ends, "limits": {"rpm": 60}}
    made = admin.client.post("/v1/teams/search/keys", json=body)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    first = made.json()
    rotated = admin.client.post(f"/v1/keys/{first['id']}/rotate", json={"grace_seconds": 3600})
    second = rotated.json()
    assert (second["label"], second["expires"]) == ("ci", first["expires"])
    assert second["token"] != first["token"]
    admin.client.post(f"/v1/keys/{second['id']}/revoke")
    problem(admin.client.post(f"/v1/keys/{second['id']}/rotate"), 409)

    for path in ("/v1/keys", "/v1/teams/search/keys", "/v1/audit", "/v1/teams", "/v1/usage"):
        text = admin.client.get(path).text
        for token in (first["token"], second["token"]):
            assert token.rsplit("_", 1)[1] not in text
    states = [key["state"] for key in admin.client.get("/v1/keys").json()["keys"]]
    assert states == ["active", "revoked"]


def test_a_key_cannot_end_in_the_past(admin: Admin) -> None:
    admin.client.post("/v1/teams", json=SEARCH)
    body = {"expires": "2020-01-01T00:00:00Z"}
    answer = admin.client.post("/v1/teams/search/keys", json=body)
    assert "past" in problem(answer, 422)
    body = {"expires": "2099-01-01T00:00:00"}
    answer = admin.client.post("/v1/teams/search/keys", json=body)
    assert problem(answer, 422).startswith("expires: ")


def test_no_answer_holds_a_cache_salt_or_a_digest(admin: Admin) -> None:
    answers = [
        admin.client.post("/v1/teams", json=SEARCH),
        admin.client.post("/v1/teams/search/keys", json={}),
    ]
    id = answers[-1].json()["id"]
    answers += [
        admin.client.put("/v1/teams/search", json={"tier": "batch"}),
        admin.client.patch("/v1/teams/search", json={"tier": "standard"}),
        admin.client.post(f"/v1/keys/{id}/rotate"),
        admin.client.post(f"/v1/keys/{id}/revoke"),
        *(admin.client.get(path) for method, path in ROUTES if method == "GET"),
    ]
    [team] = admin.stored()[1]
    answers.append(admin.client.delete("/v1/teams/search"))
    answers.append(admin.client.get("/v1/audit"))
    for answer in answers:
        assert answer.is_success
        for secret in (team.cache_salt, "cache_salt", "digest"):
            assert secret not in answer.text


def test_the_audit_names_who_is_behind_the_request(admin: Admin) -> None:
    admin.client.post("/v1/teams", json=SEARCH)
    named = {"x-actor": "ada@example.com"}
    admin.client.patch("/v1/teams/search", json={"tier": "batch"}, headers=named)
    changed, made = admin.client.get("/v1/audit").json()["entries"]
    assert (made["actor"], made["action"], made["subject"]) == (
        "admin-api",
        "team.create",
        "search",
    )
    assert changed["actor"] == "admin-api:ada@example.com"
    assert changed["change"] == {"tier": ["interactive", "batch"]}
    assert len(admin.client.get("/v1/audit?limit=1").json()["entries"]) == 1


@pytest.mark.parametrize("actor", ["a b", "a\tb", "<script>", "é".encode(), "a" * 65, "-rf"])
def test_an_actor_of_other_letters_is_refused(empty: Admin, actor: str | bytes) -> None:
    headers: list[tuple[str, str | bytes]] = [("x-actor", actor)]
    answer = empty.client.request("POST", "/v1/teams", json=SEARCH, headers=headers)  # type: ignore[arg-type]
    assert problem(answer, 422).startswith("header.x-actor: ")


def test_use_is_asked_for_as_on_the_command_line(empty: Admin) -> None:
    query = {"team": "search", "since": "7d", "until": "1h", "by": "model,day"}
    assert empty.client.get("/v1/usage", params=query).json() == {"usage": []}
    for name, value in [("since", "soon"), ("until", "-1d"), ("by", "colour"), ("since", "")]:
        answer = empty.client.get("/v1/usage", params={name: value})
        assert problem(answer, 422).startswith(f"{name} {value!r}")


def test_a_database_that_is_away_is_a_503_without_its_password() -> None:
    database = Database(f"postgresql://gptoss:hunter2@127.0.0.1:{free_port()}/gptoss")
    app = create_app(Directory(database), database, SecretStr(TOKEN))

    async def ask(path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {TOKEN}"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://admin", headers=headers
        ) as client:
            return await client.get(path)

    for path in ("/v1/teams", "/v1/keys", "/v1/usage", "/v1/audit"):
        answer = asyncio.run(ask(path))
        assert problem(answer, 503) == "the database cannot be used now: try again"
        assert answer.headers["retry-after"] == "5"
