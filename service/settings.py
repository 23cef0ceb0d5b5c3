"""Every setting of the service, once.

A value comes from, first wins: the environment (`GPTOSS_…`, nested by `__`), the YAML file that
`GPTOSS_CONFIG` names, the default here. `gptoss settings` prints them all.
"""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from service import address
from service.buckets import TOKEN_BUCKETS, TTFT_BUCKETS
from service.errors import UserError

CONFIG_VARIABLE = "GPTOSS_CONFIG"
MIN_SECRET_LENGTH = 32
_MIN_DIFFERENT = 8
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "gptoss"


class Section(BaseModel):
    """A group of settings; an unknown name in it is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _is_plain_url(text: str) -> bool:
    """Whether it is of HTTP, of a host and perhaps a path, and holds no secret."""
    try:
        url = urlsplit(text)
        is_http = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and not set(text) & set(" @?#")
    return is_http and plain


def _strong(name: str, secret: SecretStr) -> None:
    value = secret.get_secret_value()
    if 0 < len(value) < MIN_SECRET_LENGTH:
        raise ValueError(f"{name} has {len(value)} characters: use {MIN_SECRET_LENGTH} random ones")
    if value and len(set(value)) < _MIN_DIFFERENT:
        raise ValueError(f"{name} repeats itself: use {MIN_SECRET_LENGTH} random characters")
    if not value.isprintable() or " " in value:
        raise ValueError(f"{name} holds white space: use letters, digits and signs")


class UpstreamSettings(Section):
    """Replicas of one model: one by its address, or all that a DNS name or a page has."""

    model: str = Field(min_length=1, description="the name under which the engine serves it")
    url: str = Field(
        description="http://host:port of the engine, dns+http://name:port for every address of a"
        " name, srv+http://_service._tcp.name for every target of a service, sd+http://host:port/path"
        " (or sd+https) for every target of a page in Prometheus' HTTP service discovery format"
    )
    pool: str = Field("", description="its pool; empty: the one that is called as the model")
    slots: int = Field(
        0, ge=0, description="requests at a time to one replica; 0: routing.queue.slots"
    )

    @field_validator("url")
    @classmethod
    def _url_is_an_address(cls, url: str) -> str:
        return str(address.parse(url))


class ModelSettings(Section):
    """A name that clients ask for, and the pools that serve it."""

    pools: dict[str, Annotated[float, Field(ge=0)]] = Field(
        min_length=1, description="share of each pool, such as {stable: 95, canary: 5}"
    )
    fallback: str = Field(
        "", description="model that answers instead while this one is down or full"
    )


class GatewaySettings(Section):
    """The data path."""

    host: str = Field("127.0.0.1", description="address the API listens on")
    port: Port = Field(8000, description="port of the API")
    reuse_port: bool = Field(
        False, description="let several gateways listen on that port (gptoss gateway --processes)"
    )
    ops_host: str = Field("127.0.0.1", description="address of /livez, /readyz and /metrics")
    ops_port: Port = Field(8001, description="port of /livez, /readyz and /metrics")
    upstreams: tuple[UpstreamSettings, ...] = Field((), description="the replicas, by model")
    models: dict[str, ModelSettings] = Field(
        default_factory=dict,
        description="names for clients and the pools behind each, with weights; a pool that none"
        " names is asked for by its own name",
    )
    engine_key: SecretStr = Field(
        SecretStr(""), description="bearer secret that the engines expect (their VLLM_API_KEY)"
    )
    max_body_bytes: int = Field(8 << 20, gt=0, description="largest request body, bytes")
    max_choices: int = Field(
        8, ge=1, le=128, description="largest `n`, and most prompts of one request"
    )
    max_json_depth: int = Field(64, ge=8, le=200, description="deepest nesting of a request's JSON")
    body_timeout: Seconds = Field(60, description="for a client to send its whole body, s")
    client_timeout: Seconds = Field(
        60,
        description="longest a client may not read what is written to it, s; idle_timeout at most",
    )
    connect_timeout: Seconds = Field(5, description="to open a connection to an engine, s")
    first_event_timeout: Seconds = Field(
        120, description="for a stream's first event, the engine's queue and prefill included, s"
    )
    idle_timeout: Seconds = Field(
        120, description="longest silence of an engine between two events, s"
    )
    response_timeout: Seconds = Field(
        600, description="for a whole answer that is not streamed, s; as OpenAI's SDK"
    )
    total_timeout: Seconds = Field(3600, description="longest that any request may take, s")

    @model_validator(mode="after")
    def _secret_is_strong(self) -> Self:
        _strong("engine_key", self.engine_key)
        return self

    @property
    def client_patience(self) -> float:
        """How long a client may not read, s: were it longer than an engine may say nothing, the
        engine would be blamed."""
        return min(self.client_timeout, self.idle_timeout)

    @model_validator(mode="after")
    def _timeouts_agree(self) -> Self:
        for name in ("first_event_timeout", "idle_timeout", "response_timeout"):
            if getattr(self, name) > self.total_timeout:
                raise ValueError(f"{name} is longer than total_timeout: lower it, or raise that")
        return self

    @model_validator(mode="after")
    def _models_have_pools(self) -> Self:
        models = {upstream.pool or upstream.model: upstream.model for upstream in self.upstreams}
        for upstream in self.upstreams:
            pool = upstream.pool or upstream.model
            if models[pool] != upstream.model:
                raise ValueError(f"upstreams: pool {pool!r} serves two models: give each its own")
        for name, model in self.models.items():
            for pool in model.pools.keys() - models.keys():
                raise ValueError(f"models: {name!r} names pool {pool!r}, of which no upstream is")
            if not any(model.pools.values()):
                raise ValueError(f"models: all pools of {name!r} have weight 0")
            if model.fallback and not self._is_public(model.fallback, models):
                raise ValueError(f"models: fallback {model.fallback!r} of {name!r} is no model")
            if model.fallback == name:
                raise ValueError(f"models: {name!r} is its own fallback")
        return self

    def _is_public(self, name: str, pools: dict[str, str]) -> bool:
        hidden = {pool for model in self.models.values() for pool in model.pools}
        return name in self.models or (name in pools and name not in hidden)


class DatabaseSettings(Section):
    """Teams, keys, ledger and audit."""

    url: SecretStr = Field(
        SecretStr(""),
        description="postgresql://user:password@host/name; empty: SQLite in the state folder",
    )
    snapshot_max_age: Seconds = Field(
        300, description="oldest snapshot of teams and keys with which /readyz is still green, s"
    )


class HealthSettings(Section):
    """When a replica gets no requests, and when it gets them again."""

    interval: Seconds = Field(5, description="between two checks of a replica, s")
    timeout: Seconds = Field(
        5, description="for the answer to a check, s; a loaded engine answers late"
    )
    failures: int = Field(
        3, ge=1, description="checks or requests that fail in a row until a replica is out"
    )
    ejection: Seconds = Field(2, description="out after failed requests; doubles each time, s")
    max_ejection: Seconds = Field(60, description="longest time out after failed requests, s")
    slow_start: Seconds = Field(20, description="until a replica that is back has a full share, s")
    stall: Seconds = Field(
        60, description="longest an engine may have running requests and count no token, s"
    )


class QueueSettings(Section):
    """Who waits in front of a pool of engines, and for how long. By tier of the team."""

    slots: int = Field(128, ge=1, description="requests to one replica at a time, by one gateway")
    max_waiting: int = Field(1000, ge=0, description="requests that wait, by pool")
    interactive_wait: Seconds = Field(15, description="longest wait of an interactive request, s")
    standard_wait: Seconds = Field(60, description="longest wait of a standard request, s")
    batch_wait: Seconds = Field(300, description="longest wait of a batch request, s")
    interactive_weight: float = Field(4, gt=0, description="share of an interactive team")
    standard_weight: float = Field(2, gt=0, description="share of a standard team")
    batch_weight: float = Field(1, gt=0, description="share of a batch team")


class RoutingSettings(Section):
    """Which replica a request goes to, and when."""

    interval: Seconds = Field(5, description="between two looks at a DNS name or a page, s")
    nameserver: str = Field(
        "", description="address:port of the DNS server; empty: those of the system"
    )
    hold: float = Field(
        0, ge=0, description="for a pool without a working replica to get one, s; 0: 503 at once"
    )
    retries: int = Field(
        2, ge=0, le=5, description="more replicas tried before a client has its first byte"
    )
    retry_ratio: float = Field(
        0.2, ge=0, le=1, description="most retries per request, so that trouble does not multiply"
    )
    retry_floor: float = Field(1, ge=0, description="retries per second beside that")
    health: HealthSettings = Field(default_factory=HealthSettings)
    queue: QueueSettings = Field(default_factory=QueueSettings)

    @field_validator("nameserver")
    @classmethod
    def _nameserver_is_an_address(cls, nameserver: str) -> str:
        if nameserver:
            address.parse_nameserver(nameserver)
        return nameserver


class OnStoreLoss(StrEnum):
    """What a limit does while its store cannot be asked."""

    DEGRADED = "degraded"
    OPEN = "open"
    CLOSED = "closed"


class QuotaSettings(Section):
    """Counters of requests and tokens."""

    url: SecretStr = Field(
        SecretStr(""),
        description="redis://, rediss:// (TLS), redis+sentinel://host:port,…/service or"
        " redis+cluster://host:port,…; empty: counters in this process",
    )
    timeout: Annotated[float, Field(gt=0, le=0.05)] = Field(
        0.05, description="longest a request waits for the store, s"
    )
    lease: Seconds = Field(60, description="until an unattended reservation is given up, s")
    gateways: int = Field(
        1, ge=1, description="gateways that share the store, at least, as long as it is away"
    )
    degraded_limit: Seconds = Field(
        900, description="longest a gateway goes by its own counters before it refuses, s"
    )
    requests: OnStoreLoss = Field(OnStoreLoss.DEGRADED, description="rates of requests")
    tokens: OnStoreLoss = Field(OnStoreLoss.DEGRADED, description="rates of tokens")
    concurrency: OnStoreLoss = Field(OnStoreLoss.DEGRADED, description="concurrent requests")
    budgets: OnStoreLoss = Field(OnStoreLoss.DEGRADED, description="tokens per day and month")


class LedgerSettings(Section):
    """The lasting record of use."""

    flush: Seconds = Field(1, description="longest a record waits to be written, s")
    max_pending: int = Field(
        100_000, gt=0, description="records kept in memory while the database is away"
    )
    keep_records_days: int = Field(35, ge=1, description="then they are summed by hour")
    keep_hourly_days: int = Field(400, ge=1, description="then they are summed by day")
    keep_daily_days: int = Field(3650, ge=1, description="then they are deleted")


class AdminSettings(Section):
    """The admin API. Without a token there is none."""

    host: str = Field("127.0.0.1", description="address of the admin API")
    port: Port = Field(8002, description="port of the admin API")
    token: SecretStr = Field(SecretStr(""), description="bearer secret of the admin API")

    @model_validator(mode="after")
    def _secret_is_strong(self) -> Self:
        _strong("token", self.token)
        return self


class SSOSettings(Section):
    """Single sign-on: JSON Web Tokens of one OpenID Connect issuer work as keys do."""

    issuer: str = Field("", description="`iss` of its tokens; empty: no single sign-on")
    audience: str = Field("", description="`aud` that a token must carry")
    jwks_url: str = Field("", description="its keys; empty: found through the issuer's discovery")
    algorithms: tuple[
        Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"], ...
    ] = Field(("RS256", "ES256"), min_length=1, description="signatures that are accepted")
    team_claim: str = Field("gptoss_team", description="claim that names the team")
    teams: dict[str, str] = Field(
        default_factory=dict, description="team by value of the claim; empty: the value is the team"
    )


class SLOSettings(Section):
    """What counts as good, at the gateway. Bounds of the histograms, so that these tell as well."""

    ttft: float = Field(3.0, description="to the first token of a stream, s")
    tpot: float = Field(0.08, description="for each token after it, s")

    @field_validator("ttft", "tpot")
    @classmethod
    def _is_a_bound(cls, value: float, info: ValidationInfo) -> float:
        bounds = TTFT_BUCKETS if info.field_name == "ttft" else TOKEN_BUCKETS
        if value not in bounds:
            raise ValueError(f"use one of {', '.join(f'{bound:g}' for bound in bounds)}")
        return value


class TelemetrySettings(Section):
    """Metrics and traces. Without an endpoint nothing is traced."""

    teams: int = Field(
        100,
        ge=1,
        description="teams that have a label of their own in metrics; the others are `_other`",
    )
    otlp_endpoint: str = Field(
        "",
        description="collector of traces, OTLP over HTTP: http://collector:4318, to which"
        " /v1/traces is added; empty: none",
    )
    otlp_headers: SecretStr = Field(
        SecretStr(""),
        description="headers for it, such as a token: name=value,name=value, values URL-encoded",
    )
    sample: float = Field(1.0, ge=0, le=1, description="share of requests that are traced")
    trust_sampling: bool = Field(
        False, description="a caller that brings a trace decides whether its request is traced"
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _endpoint_is_a_url(cls, endpoint: str) -> str:
        if endpoint and not _is_plain_url(endpoint):
            raise ValueError("write it as http://host:port; a token goes into otlp_headers")
        return endpoint

    @model_validator(mode="after")
    def _headers_can_be_sent(self) -> Self:
        for name, value in self.otlp_header_fields.items():
            if not _HEADER_NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
                raise ValueError("otlp_headers: write name=value,name=value, values URL-encoded")
        return self

    @property
    def otlp_header_fields(self) -> dict[str, str]:
        """The headers, by name."""
        parts = self.otlp_headers.get_secret_value().split(",")
        # A part without `=` has no name, so that it is refused.
        pairs = (
            part.partition("=") if "=" in part else ("", "", part) for part in parts if part.strip()
        )
        return {name.strip(): unquote(value.strip()) for name, _, value in pairs}


class Settings(BaseSettings):
    """All of it. Immutable: built once at start and handed down."""

    model_config = SettingsConfigDict(
        env_prefix="GPTOSS_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    cache_dir: Path = Field(
        default_factory=lambda: _xdg("XDG_CACHE_HOME", ".cache"),
        description="what can be made again: the tiny model, stamps of verified weights",
    )
    state_dir: Path = Field(
        default_factory=lambda: _xdg("XDG_STATE_HOME", ".local/state"),
        description="what must be kept: keys, ledger and its journal, the engine's config, logs",
    )
    drain: Seconds = Field(
        120,
        description="for open streams to end after SIGTERM, of a gateway or an engine, s; all grace"
        " periods follow from it (`gptoss grace`)",
    )
    notice: float = Field(
        0,
        ge=0,
        description="for which a gateway that was told to end is unready and still takes requests,"
        " until whoever balances load has noticed, s",
    )
    termination_grace: float = Field(
        0,
        ge=0,
        description="what the platform gives this process between SIGTERM and SIGKILL, s; 0: not"
        " known. A start is refused where it is too short for the drain",
    )
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    routing: RoutingSettings = Field(default_factory=RoutingSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    quota: QuotaSettings = Field(default_factory=QuotaSettings)
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    admin: AdminSettings = Field(default_factory=AdminSettings)
    sso: SSOSettings = Field(default_factory=SSOSettings)
    slo: SLOSettings = Field(default_factory=SLOSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)

    @property
    def database_url(self) -> str:
        """The configured database, or the file that stands for one on a single machine."""
        return self.database.url.get_secret_value() or f"sqlite:///{self.state_dir / 'gptoss.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file; no `.env`: nothing is read that was not asked for."""
        path = os.environ.get(CONFIG_VARIABLE)
        file = (YamlConfigSettingsSource(settings_cls, yaml_file=path),) if path else ()
        return (init_settings, env_settings, *file)


def load() -> Settings:
    """Read the settings, or say in one line which one is wrong and where it came from."""
    path = os.environ.get(CONFIG_VARIABLE)
    try:
        if path:
            _check_file(Path(path))
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise UserError(
            f"setting {name}: {first['msg']}; see `gptoss settings` for what there is"
            + (f" (environment, or {path})" if path else "")
        ) from None
    except (
        SettingsError
    ) as error:  # its own text ends where the value begins, so no secret is in it
        raise UserError(f"{error}: lists and groups are given as JSON") from None


def _check_file(path: Path) -> None:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path} ({CONFIG_VARIABLE}): {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise UserError(f"{path} is not YAML{where}: mend it or unset {CONFIG_VARIABLE}") from None
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path} must hold names and values, such as `gateway: {{port: 8000}}`")
