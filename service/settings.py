"""Every setting of the service, once.

A value comes from, first wins: the environment (`GPTOSS_…`, nested by `__`), the YAML file that
`GPTOSS_CONFIG` names, the default here. `gptoss settings` prints them all.
"""

import os
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
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

from service.errors import UserError

CONFIG_VARIABLE = "GPTOSS_CONFIG"
MIN_ENGINE_KEY_LENGTH = 32

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "gptoss"


class Section(BaseModel):
    """A group of settings; an unknown name in it is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class UpstreamSettings(Section):
    """One replica: which model it serves, and where."""

    model: str = Field(min_length=1, description="the name clients ask for")
    url: str = Field(description="http://host:port of the engine")

    @field_validator("url")
    @classmethod
    def _url_is_an_origin(cls, url: str) -> str:
        parts = urlsplit(url)
        rest = (parts.path, parts.query, parts.fragment, parts.username)
        if parts.scheme not in ("http", "https") or not parts.hostname or any(rest):
            raise ValueError("give scheme, host and port alone, such as http://10.0.0.7:8000")
        _ = parts.port  # raises for one that is no port
        return url


class GatewaySettings(Section):
    """The data path."""

    host: str = Field("127.0.0.1", description="address the API listens on")
    port: Port = Field(8000, description="port of the API")
    ops_host: str = Field("127.0.0.1", description="address of /livez, /readyz and /metrics")
    ops_port: Port = Field(8001, description="port of /livez, /readyz and /metrics")
    upstreams: tuple[UpstreamSettings, ...] = Field((), description="the replicas, by model")
    engine_key: SecretStr = Field(
        SecretStr(""), description="bearer secret that the engines expect (their VLLM_API_KEY)"
    )
    max_body_bytes: int = Field(8 << 20, gt=0, description="largest request body, bytes")
    body_timeout: Seconds = Field(60, description="for a client to send its whole body, s")
    client_timeout: Seconds = Field(
        60, description="longest a client may not read what is written to it, s"
    )
    connect_timeout: Seconds = Field(5, description="to open a connection to an engine, s")
    idle_timeout: Seconds = Field(
        120, description="longest silence of a streaming engine, queueing and prefill included, s"
    )
    response_timeout: Seconds = Field(
        600, description="for a whole answer that is not streamed, s; as OpenAI's SDK"
    )
    drain: Seconds = Field(120, description="for open requests to end after SIGTERM, s")

    @model_validator(mode="after")
    def _secret_is_strong(self) -> Self:
        length = len(self.engine_key.get_secret_value())
        if 0 < length < MIN_ENGINE_KEY_LENGTH:
            raise ValueError(
                f"engine_key has {length} characters: use {MIN_ENGINE_KEY_LENGTH} random ones"
            )
        return self


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
        description="what must be kept: keys, the engine's rendered config, logs",
    )
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)

    @property
    def keys_file(self) -> Path:
        """Keys, as hashes."""
        return self.state_dir / "keys.json"

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
