"""What others were attacked with: a test for each advisory and each published mistake that we know.

Names carry the advisory's id; docstrings say the rule for us in one line.
"""

import ast
import asyncio
import base64
import hashlib
import json
import re
import secrets
import socket
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import jwt
import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from service.admin.app import create_app
from service.database.connect import Database
from service.database.opened import open_database
from service.engine import launcher
from service.errors import UserError
from service.gateway.routes import INFERENCE
from service.models import MODELS
from service.profiles import PROFILES, plan
from service.settings import OnStoreLoss, QuotaSettings, Settings, SSOSettings
from service.tenants.directory import Directory, NotFound
from service.tenants.keys import Key
from service.tenants.snapshot import Snapshot
from service.tenants.sso import looks_like_jwt
from service.tenants.team import Team
from tests.integration.conftest import ENGINE_KEY, MAX_BODY, Gateway
from tests.integration.fake_engine import FakeEngine
from tests.integration.test_gateway import CHAT, ask, connect, error_of, read_all, request
from tests.integration.test_sso import Issuer, door, run
from tests.integration.waiting import wait_for

ROOT = Path(__file__).parents[2]
ADMIN_TOKEN = "the-admin-token-of-these-tests-0123456789"
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
SQL = ("' OR 1=1 --", "gptoss_' UNION SELECT digest FROM keys --_x", '"; DROP TABLE keys; --')


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


@pytest.fixture(scope="module")
def anybody() -> Iterator[httpx.Client]:
    """Someone without a key."""
    with httpx.Client(timeout=10) as client:
        yield client


@pytest.fixture
def untouched(engine: FakeEngine) -> Iterator[None]:
    """The test must not lead to any call of the engine."""
    before = len(engine.calls)
    yield
    assert len(engine.calls) == before


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the service."""
    for path in sorted((ROOT / "service").rglob("*.py")):
        yield path, ast.parse(path.read_text())


# --- CVE-2026-42208: SQL injection through the Authorization header


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("token", SQL)
def test_cve_2026_42208_sql_in_a_key_is_only_a_wrong_key(
    gateway: Gateway, token: str, anybody: httpx.Client
) -> None:
    """A key is looked up in memory, and only if it has the form of a key."""
    for headers in ({"authorization": f"Bearer {token}"}, {"x-api-key": token}):
        answer = anybody.post(gateway.url + CHAT, headers=headers, json=ask("well"))
        assert error_of(answer)["code"] == "invalid_api_key"
    with gateway.client() as good:
        assert good.get("/v1/models").status_code == 200


def test_cve_2026_42208_no_sql_is_built_from_a_key(tmp_path: Path) -> None:
    """Only constants become SQL; values are bound."""
    for path, tree in sources():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if name in ("text", "exec_driver_sql", "literal_column") and call.args:
                assert is_constant(call.args[0]), f"{path}:{call.lineno}"

    async def test() -> None:
        async with open_database(Settings(state_dir=tmp_path)) as database:
            directory = Directory(database)
            await directory.create_team("tests", Team("search"))
            for words in SQL:
                with pytest.raises(NotFound):
                    await directory.revoke_key(words, words)
            assert len(await directory.teams()) == 1

    asyncio.run(test())


def is_constant(sql: ast.expr) -> bool:
    """Made of literals and of names in capitals alone."""
    match sql:
        case ast.Constant():
            return True
        case ast.Name():
            return sql.id.isupper()
        case ast.IfExp():
            return is_constant(sql.body) and is_constant(sql.orelse)
        case ast.JoinedStr():
            return all(map(is_constant, sql.values))
        case ast.FormattedValue():
            return is_constant(sql.value)
    return False


# --- CVE-2026-42271, CVE-2024-6587: who decides what is dialled or run


@pytest.mark.parametrize("id", ["cve_2026_42271", "cve_2024_6587"])
def test_cve_2026_42271_cve_2024_6587_nothing_that_a_caller_names_is_dialled_or_run(
    client: httpx.Client, tmp_path: Path, id: str
) -> None:
    """Engines come from the settings alone; no field, header or target of a request is one."""
    mark = tmp_path / "was-run"
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}"
        dialled: dict[str, dict[str, object]] = {
            "cve_2026_42271": {"command": "touch", "args": [str(mark)], "mcp_servers": [url]},
            "cve_2024_6587": {"api_base": url, "base_url": url, "custom_llm_provider": url},
        }
        names = dialled[id]
        for name, value in names.items():
            answer = client.post(CHAT, json=ask("well", **{name: value}))
            assert (answer.status_code, error_of(answer)["param"]) == (400, name)
        for path in ("/mcp-rest/test/connection", "/v1/mcp/server", "/config/update"):
            assert client.post(path, json=names | {"url": url}).status_code == 404
        headers = {"x-portkey-custom-host": url, "x-forwarded-host": url, "host": url[7:]}
        assert client.post(CHAT, json=ask("well"), headers=headers).status_code == 200
        with pytest.raises(TimeoutError):
            trap.accept()
    assert not mark.exists()


# --- BadHost

MALFORMED_HOSTS = ["x/v1/chat/completions?", "x#", "x?", "u@x", "x y", "x:y", "x:80:80", "[x"]


@pytest.mark.usefixtures("untouched")
def test_cve_2026_48710_cve_2026_49468_cve_2026_48746_the_host_header_decides_nothing(
    gateway: Gateway, anybody: httpx.Client
) -> None:
    """The route is `scope["path"]` alone, and what is not listed is denied."""
    hosts = ("chat", "v1", "127.0.0.1", "[::1]:80", "metrics.", "")
    for host in hosts:
        answer = anybody.post(f"{gateway.url}/invocations", headers={"host": host})
        assert answer.status_code == 404
        assert anybody.post(gateway.url + CHAT, headers={"host": host}).status_code == 401


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("host", MALFORMED_HOSTS)
def test_cve_2026_48710_a_malformed_host_is_refused(
    gateway: Gateway, host: str, anybody: httpx.Client
) -> None:
    """A Host with a path, a user or anything else in it is answered 400, on every port."""
    for url in (gateway.url + CHAT, f"{gateway.ops}/metrics"):
        answer = anybody.get(url, headers={"host": host})
        assert (answer.status_code, answer.headers["connection"]) == (400, "close")
        assert "Host" in answer.text


def test_cve_2026_48710_starlette_is_new_enough() -> None:
    """Starlette, which the admin API uses, is 1.0.1 or later: installed and pinned."""
    pins = re.findall(r"(?m)^starlette==(.+)$", "\n".join(text for _, text in requirements()))
    assert len(pins) >= 3
    for found in (version("starlette"), *pins):
        assert tuple(map(int, found.split("."))) >= (1, 0, 1)


# --- CVE-2026-35030: a cache keyed by the beginning of a token


def test_cve_2026_35030_tokens_that_begin_alike_are_kept_apart() -> None:
    """What is remembered of a token is by all of it, after its signature was verified."""
    issuer = Issuer()
    teams = {"search": Team("search"), "other": Team("other")}

    async def test() -> None:
        async with door(issuer) as made:
            one, two = issuer.token(), issuer.token(sub="ben", gptoss_team="other")
            assert one[:40] == two[:40]
            first, second = [await made.sso.authenticate(token, teams) for token in (one, two)]
            assert first and second
            assert (first.team.name, second.team.name) == ("search", "other")
            head, body, _ = two.split(".")
            assert await made.sso.authenticate(f"{head}.{body}.{one.split('.')[2]}", teams) is None
            ended = issuer.token(exp=1)
            assert await made.sso.authenticate(ended, teams) is None

    with issuer.listening():
        run(test())


# --- CVE-2025-59425: comparing keys in time that tells


@pytest.mark.parametrize("kind", ["right", "another secret", "unknown"])
def test_cve_2025_59425_keys_are_compared_by_digest_in_constant_time(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a key is known or not, two SHA-256 digests are compared, once."""
    compared: list[tuple[int, int]] = []

    def spy(one: bytes, two: bytes) -> bool:
        compared.append((len(one), len(two)))
        return one == two

    _, token = Key.issue("tests")
    sent = {
        "right": token,
        "another secret": token[:-43] + "x" * 43,
        "unknown": Key.issue("tests")[1],
    }[kind]
    snapshot = Snapshot()
    monkeypatch.setattr("service.tenants.keys.hmac.compare_digest", spy)
    assert snapshot.authenticate(sent) is None
    assert compared == [(32, 32)]


# --- vllm#58144, vllm#18892: routes that a list of prefixes leaves open

OPEN_IN_VLLM = """
    /invocations /tokenize /detokenize /ping /load /server_info /version /health /metrics /pause
    /resume /sleep /wake_up /collective_rpc /reset_prefix_cache /scale_elastic_ep /abort_requests
    /update_weights /start_profile /v1/load_lora_adapter /v1/embeddings /v1/audio/speech /pooling
    /score /rerank /classify /inference/v1/generate /v1/chat/completions/render /docs /openapi.json
""".split()


@pytest.mark.usefixtures("untouched")
def test_vllm_58144_vllm_18892_only_listed_routes_exist(client: httpx.Client) -> None:
    """The whole path is compared with a list of what is allowed, even for a good key."""
    for path in OPEN_IN_VLLM:
        for method in ("GET", "POST", "PUT", "DELETE"):
            answer = client.request(method, path, json=ask("well"))
            assert error_of(answer)["code"] == "unknown_url", path


def test_vllm_58144_an_engine_that_others_can_reach_needs_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines listen on loopback; beyond it they start with a strong secret only."""
    monkeypatch.setattr(launcher, "_check_port", lambda host, port: None)
    chosen = PROFILES["cpu-dev"]
    proven = plan(MODELS[next(iter(chosen.models))], chosen)
    assert launcher.render(proven, model_path=tmp_path, state_dir=tmp_path).config["host"] == (
        "127.0.0.1"
    )
    for environ in ({}, {"VLLM_API_KEY": "weak"}):
        with pytest.raises(UserError, match="VLLM_API_KEY"):
            launcher.preflight(proven, "0.0.0.0", 8100, environ)  # noqa: S104


# --- LiteLLM: from a tenant to an administrator


@pytest.mark.usefixtures("untouched")
def test_ghsa_69x8_hrgq_fjj8_what_is_stored_of_a_key_opens_nothing(
    gateway: Gateway, anybody: httpx.Client
) -> None:
    """Neither the stored hash of a key nor its public id is a credential."""
    digest = hashlib.sha256(gateway.key.encode()).digest()
    id, secret = gateway.key.split("_")[1:]
    stored = [digest.hex(), base64.b64encode(digest).decode(), id, secret]
    for token in [*stored, f"gptoss_{id}_{digest.hex()[:43]}"]:
        for headers in ({"authorization": f"Bearer {token}"}, {"x-api-key": token}):
            assert anybody.post(gateway.url + CHAT, headers=headers).status_code == 401


PRIVILEGES = {"user_role": "proxy_admin", "team": "root", "tier": "interactive", "limits": {}}


@pytest.mark.parametrize("field", PRIVILEGES)
@pytest.mark.usefixtures("untouched")
def test_ghsa_wpfp_gwwc_vwq6_no_tenant_gives_itself_a_role(
    client: httpx.Client, field: str
) -> None:
    """There is no field in which a tenant says who it is or what it may do."""
    answer = client.post(CHAT, json=ask("well", **{field: PRIVILEGES[field]}))
    assert (answer.status_code, error_of(answer)["param"]) == (400, field)


def test_ghsa_qrc4_49gv_mv9m_no_key_makes_keys(client: httpx.Client, gateway: Gateway) -> None:
    """Teams and keys are changed on another port, with another credential."""
    database = Database("sqlite://")
    app = create_app(Directory(database), database, SecretStr(ADMIN_TOKEN))
    paths = [(m.upper(), p) for p, methods in app.openapi()["paths"].items() for m in methods]
    assert paths

    async def asked(method: str, path: str) -> int:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as tenant:
            return (await tenant.request(method, path, headers=client.headers)).status_code

    for method, path in paths:
        assert asyncio.run(asked(method, path)) == 401
        assert client.request(method, path).status_code == 404


def test_cve_2026_12796_a_revoked_key_ends_on_the_connection_that_used_it(gateway: Gateway) -> None:
    """Nothing outlives its credential: every request is authenticated by itself."""
    key, token = gateway.office.add_key("tests")
    with httpx.Client(base_url=gateway.url, headers={"x-api-key": token}) as held:
        wait_for(lambda: held.get("/v1/models").status_code == 200)
        gateway.office.revoke(key.id)
        wait_for(lambda: held.get("/v1/models").status_code == 401)
        assert held.post(CHAT, json=ask("well")).status_code == 401


# --- LiteLLM on PyPI, 2026-03-24: stolen publishing rights


def requirements() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "deploy" / "requirements").glob("*.txt")):
        yield path.name, path.read_text()


def secret_settings(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The names of all settings that are secret."""
    for name, kind in get_type_hints(section).items():
        if kind is SecretStr:
            yield prefix + name
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from secret_settings(kind, f"{prefix}{name}.")


def test_litellm_1_82_7_1_82_8_what_is_installed_is_pinned_little_and_without_secrets() -> None:
    """Exact versions, few dependencies, no start-up hooks, no vendor's secret in the gateway."""
    for name, text in requirements():
        for line in text.splitlines():
            assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[A-Za-z0-9.+]+", line), f"{name}: {line}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert len(project["project"]["dependencies"]) <= 25
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [
        "service",
        "loadtest",
    ]
    assert not list((ROOT / "service").rglob("*.pth"))
    own = {"gateway.engine_key", "database.url", "quota.url", "admin.token"}
    own |= {"telemetry.otlp_headers"}  # for the operator's own collector of traces
    assert set(secret_settings(Settings)) == own


# --- new-api, Stripe


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_cve_2026_30886_no_id_of_anothers_object_can_be_asked_for(
    client: httpx.Client, method: str
) -> None:
    """What an engine keeps by id has no owner there: it can neither be kept nor asked for."""
    for path in (
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/cancel",
        "/v1/videos/1",
        "/v1/files",
    ):
        assert client.request(method, path).status_code == 404
    for field in ("previous_response_id", "background", "conversation"):
        body = {"model": "well", "input": "x", field: "resp_1"}
        answer = client.post("/v1/responses", json=body)
        assert (answer.status_code, error_of(answer)["param"]) == (400, field)


def test_cve_2026_25591_nobody_searches_the_database_by_a_pattern() -> None:
    """No LIKE and no regular expression runs in the database."""
    for path, tree in sources():
        called = {n.func.attr for n in ast.walk(tree) if is_method_call(n)}  # type: ignore[attr-defined]
        patterns = {"like", "ilike", "contains", "icontains", "regexp_match", "match_op"}
        assert not called & patterns, path


def is_method_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)


def test_stripe_an_empty_secret_opens_nothing_and_signs_nothing(
    gateway: Gateway, anybody: httpx.Client
) -> None:
    """An empty secret is refused at the start, and no signature has a shared secret at all."""
    database = Database("sqlite://")
    with pytest.raises(UserError, match="GPTOSS_ADMIN__TOKEN"):
        create_app(Directory(database), database, SecretStr(""))
    for algorithm in ("HS256", "none"):
        with pytest.raises(ValidationError):
            SSOSettings.model_validate({"algorithms": [algorithm]})
    for header in ("Bearer", "Bearer gptoss__", "Bearer ..", "", "gptoss__"):
        answer = anybody.get(f"{gateway.url}/v1/models", headers={"authorization": header})
        assert answer.status_code == 401
    unsigned = jwt.encode({"gptoss_team": "tests"}, "", "none")
    assert not looks_like_jwt(unsigned)


# --- vLLM: requests that break an engine

DEEP = json.loads("[" * 70 + "]" * 70)
BREAKING: dict[str, tuple[dict[str, Any], int]] = {
    "cve_2025_62426": (ask("well", chat_template_kwargs={"chat_template": "x"}), 400),
    "cve_2025_48944": (ask("well", tools=[{"function": {"parameters": {"pattern": DEEP}}}]), 400),
    "cve_2026_9540": (ask("well", n=16384), 400),
    "cve_2026_9540, a large body": (ask("well", stop="x" * MAX_BODY), 413),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("id", BREAKING)
def test_cve_2025_62426_cve_2025_48944_cve_2026_9540_what_breaks_an_engine_does_not_reach_it(
    client: httpx.Client, id: str
) -> None:
    """Fields are on a list; depth, size and `n` have bounds."""
    body, status = BREAKING[id]
    answer = client.post(CHAT, json=body)
    assert answer.status_code == status
    error_of(answer)


@pytest.mark.usefixtures("untouched")
def test_cve_2025_48956_large_headers_end_at_the_gateway(gateway: Gateway) -> None:
    """A head has 64 KiB at most; nothing of it goes to an engine."""
    body = json.dumps(ask("well")).encode()
    many = "".join(f"x-{number}: {'y' * 90}\r\n" for number in range(800))
    for headers in (f"x: {'y' * 66_000}\r\n", many):
        with connect(gateway) as connection:
            connection.sendall(request(gateway, body, headers))
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"larger than 65536 bytes" in answer


NOT_A_TENANTS = """
    priority request_id cache_salt kv_transfer_params ec_transfer_params vllm_xargs chat_template
    chat_template_kwargs mm_processor_kwargs media_io_kwargs prompt_logprobs use_beam_search
    min_tokens ignore_eos echo
""".split()


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("path", INFERENCE)
def test_what_a_tenant_must_not_control_is_refused_by_name(client: httpx.Client, path: str) -> None:
    """vLLM believes these fields of whoever sends them."""
    for field in NOT_A_TENANTS:
        answer = client.post(path, json={"model": "well", field: 1})
        assert answer.status_code == 400
        assert field in answer.json()["error"]["message"]


# --- Portkey


def test_portkey_e4570228_no_secret_has_a_default() -> None:
    """What has no secret is off, not open."""
    settings = Settings()
    for name in secret_settings(Settings):
        section, field = name.split(".")
        assert getattr(getattr(settings, section), field).get_secret_value() == ""
    assert not re.search(r"(?i)test-token|changeme|password123", (ROOT / "README.md").read_text())


def test_portkey_4e43b19d_9bcaee4d_no_page_shows_what_others_do(
    gateway: Gateway, anybody: httpx.Client
) -> None:
    """There is no log viewer, on any port."""
    for path in ("/public/", "/public/logs", "/log/stream", "/logs", "/debug", "/ui", "/admin"):
        for url in (gateway.url, gateway.ops):
            assert anybody.get(url + path).status_code == 404


def test_portkey_c9ee9436_options_of_a_request_are_in_no_log(
    gateway: Gateway, client: httpx.Client
) -> None:
    """A log line says how a request went, never what was in it: not even in what was refused."""
    marks = [secrets.token_hex(12) for _ in range(4)]
    headers = {"x-provider-options": marks[0], "cookie": marks[1]}
    fields = {"api_key": marks[2], "stop": marks[3]}
    for body in (ask("well", **fields), ask("well", stop=marks[3]), ask(marks[2]), fields):
        client.post(f"{CHAT}?key={marks[0]}", json=body, headers=headers)
    last = client.get(f"/{marks[1]}", headers=headers).headers["x-request-id"]
    wait_for(lambda: last in gateway.log.read_text())
    assert not [mark for mark in marks if mark in gateway.log.read_text()]


def test_portkey_de0e6c5a_a_gateway_in_front_of_itself_does_not_loop(
    client: httpx.Client, gateway: Gateway, engine: FakeEngine, anybody: httpx.Client
) -> None:
    """What goes to an engine does not get past a gateway: a loop ends at its first turn."""
    before = len(engine.calls)
    client.post(CHAT, json=ask("well"))
    (call,) = engine.calls[before:]
    headers = {name: value for name, value in call.headers.items() if name != "host"}
    answer = anybody.post(gateway.url + call.path, headers=headers, json=call.body)
    assert answer.status_code == 401
    assert len(engine.calls) == before + 1


# --- agentgateway, Kong: defaults that are open


@pytest.mark.usefixtures("untouched")
def test_agentgateway_a_key_is_never_optional(gateway: Gateway, anybody: httpx.Client) -> None:
    """Every route asks for a key, with the settings as they come."""
    for path in (*INFERENCE, "/v1/models", "/v1/models/well", "/v1/quota"):
        method = "POST" if path in INFERENCE else "GET"
        assert anybody.request(method, gateway.url + path, json=ask("well")).status_code == 401


def test_kong_a_lost_store_opens_nothing_and_the_engine_sees_no_credential(
    client: httpx.Client, gateway: Gateway, engine: FakeEngine
) -> None:
    """By default no limit is open without its store, and a client's key ends at the gateway."""
    quota = QuotaSettings()
    defaults = {quota.requests, quota.tokens, quota.concurrency, quota.budgets}
    assert OnStoreLoss.OPEN not in defaults
    before = len(engine.calls)
    for headers in ({}, {"x-api-key": gateway.key}, {"proxy-authorization": gateway.key}):
        assert client.post(CHAT, json=ask("well"), headers=headers).status_code == 200
    for call in engine.calls[before:]:
        assert call.headers["authorization"] == f"Bearer {ENGINE_KEY}"
        assert gateway.key not in json.dumps([call.headers, call.body])


# --- AIBrix, llm-d, semantic-router, Higress: identity that a client can write

SPOOFED = {
    "user": "root",
    "x-gateway-inference-fairness-id": "root",
    "x-gateway-team": "root",
    "x-authz-user-id": "root",
    "x-ratelimit-limit-tokens": "root",
    "x-mse-consumer": "root",
    "x-user-role": "root",
    "x-forwarded-user": "root",
    "x-vllm-priority": "-9",
    "priority": "-9",
}


def test_aibrix_llm_d_semantic_router_higress_identity_headers_are_dropped(
    client: httpx.Client, engine: FakeEngine
) -> None:
    """Of a client's headers none reaches the engine; only ours are there."""
    before = len(engine.calls)
    answer = client.post(CHAT, json=ask("well", user="root"), headers=SPOOFED)
    (call,) = engine.calls[before:]
    assert answer.status_code == 200
    assert not SPOOFED.keys() & call.headers.keys()
    assert "root" not in json.dumps([call.headers, call.body])
    assert "root" not in str(answer.headers)
