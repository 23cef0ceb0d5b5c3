"""`fleet.yaml`: what a fleet is, in the words of the chart's values."""

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from service.engine.launcher import API_KEY, OWN_PREFIX
from service.errors import UserError
from service.models import find as find_model
from service.profiles import Profile, Settings
from service.profiles import find as find_profile

SCHEMA: Final = Path(__file__).with_name("schema.json")
"""`Fleet`'s JSON schema, for editors."""

# Names of actors, files and parts of URLs are made of them.
_NAME: Final = r"^[a-z]([-a-z0-9]{0,13}[a-z0-9])?$"
Name = Annotated[str, StringConstraints(pattern=_NAME)]
_Port = Annotated[int, Field(ge=1024, le=65535)]
_Count = Annotated[int, Field(ge=0, le=4096)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Words(BaseModel):
    """A group of words; an unknown one is an error, not a silent default."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True, strict=True
    )


class Rollout(_Words):
    """How engines are replaced by those of another document."""

    surge: _Count = Field(
        0, description="engines started beside the ones that run: needs as many spare GPUs"
    )
    unavailable: _Count = Field(1, description="engines that may be away at a time")

    @model_validator(mode="after")
    def _can_go_on(self) -> Self:
        if not self.surge and not self.unavailable:
            raise ValueError("surge and unavailable are both 0: nothing could ever be replaced")
        return self


class Autoscaling(_Words):
    """Engines by the demand that gateways see."""

    enabled: bool = Field(False, description="by the demand that `gateways` see, not `replicas`")
    min_replicas: _Count = Field(1, description="0: no engine while there is no demand")
    max_replicas: Annotated[int, Field(ge=1, le=4096)] = 4
    requests_per_replica: _Count = Field(
        0,
        description="requests at one engine, waiting ones included, at which another is started;"
        " 0: three quarters of the profile's max-num-seqs",
    )
    scale_down_seconds: Annotated[float, Field(ge=1, le=86_400)] = Field(
        1200,
        description="how long the demand must have been lower until an engine is given up:"
        " more than a start takes you",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"minReplicas is {self.min_replicas} and maxReplicas {self.max_replicas}"
            )
        return self


class Pool(_Words):
    """Engines that are alike."""

    profile: str = Field("", description="how the model runs on which card: `gptoss profiles`")
    model: str = Field("", description="empty: the first that the profile has")
    replicas: _Count = Field(1, description="engines; not used where autoscaling is enabled")
    startup_seconds: _Seconds = Field(
        1800,
        description="how long loading, compiling and the self-test may take, and fetching the"
        " weights where they are not there yet",
    )
    stall_seconds: Annotated[float, Field(ge=1, le=86_400)] = Field(
        180,
        description="an engine in which requests run and no token is counted for so long is"
        " started anew",
    )
    rollout: Rollout = Rollout()
    autoscaling: Autoscaling = Autoscaling()
    node_selector: Mapping[str, str] = Field(
        default_factory=dict,
        description="labels of the Ray nodes (`ray start --labels`), beside the profile's cards",
    )
    env: Mapping[str, str] = Field(
        default_factory=dict, description="more variables of vLLM's process, such as NCCL's"
    )

    @field_validator("env")
    @classmethod
    def _is_no_secret(cls, env: Mapping[str, str]) -> Mapping[str, str]:
        if API_KEY in env or any(name.startswith(OWN_PREFIX) for name in env):
            raise ValueError(
                f"{API_KEY} and what begins with {OWN_PREFIX} are the node's: put them into the"
                " environment that runs `ray start` there"
            )
        return env

    @model_validator(mode="after")
    def _runs(self) -> Self:
        if self.profile:
            try:
                profile = find_profile(self.profile)
                if self.model and find_model(self.model).name not in profile.models:
                    runs = ", ".join(profile.models)
                    raise UserError(f"profile {profile.name} does not run {self.model}: {runs}")
            except UserError as error:
                raise ValueError(str(error)) from None
        return self

    @property
    def card(self) -> Profile:
        """Its profile."""
        return find_profile(self.profile)

    @property
    def model_name(self) -> str:
        """The model that its engines serve."""
        return find_model(self.model or next(iter(self.card.models))).name

    @property
    def settings(self) -> Settings:
        """How the model runs."""
        return self.card.models[self.model_name]


class Weights(_Words):
    """Where engines find their model. On each node: nothing is copied between them."""

    revision: str = Field("", description="branch, tag or commit in the hub; empty: the newest")
    folders: Mapping[str, str] = Field(
        default_factory=dict,
        description="folder of a model on the nodes, by its name, such as a share; others are"
        " fetched and verified by each node (`gptoss weights`)",
    )

    @field_validator("folders")
    @classmethod
    def _of_models(cls, folders: Mapping[str, str]) -> Mapping[str, str]:
        try:
            return {find_model(name).name: folder for name, folder in folders.items()}
        except UserError as error:
            raise ValueError(str(error)) from None


class Ports(_Words):
    """Where engines listen on their nodes."""

    first: _Port = 8100
    last: _Port = 8199

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"last is {self.last}, before first, {self.first}")
        return self


class Board(_Words):
    """The page on the head on which gateways read where the engines are."""

    host: str = Field("0.0.0.0", description="address on the head that it listens on")  # noqa: S104
    port: _Port = 8090

    @field_validator("host")
    @classmethod
    def _is_address(cls, host: str) -> str:
        try:
            return str(ip_address(host))
        except ValueError:
            raise ValueError("is no IP address, such as 0.0.0.0") from None


class Engines(_Words):
    """Pools by name."""

    pools: Mapping[Name, Pool] = Field(description="the engines, by the name of their pool")


class Fleet(_Words):
    """A whole fleet."""

    name: Name = Field("gptoss", description="of the fleet: one Ray cluster may have several")
    drain_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        120, description="how long open streams may go on after their engine was told to end"
    )
    notice_seconds: Annotated[float, Field(ge=0, le=600)] = Field(
        15,
        description="until no gateway sends requests any more to an engine that left the board:"
        " more than twice their routing.interval",
    )
    offline: bool = Field(False, description="weights are there already; nothing asks a hub")
    engine: Engines
    weights: Weights = Weights()
    gateways: tuple[str, ...] = Field(
        (), strict=False, description="operators' ports, such as http://10.0.0.5:8001: autoscaling"
    )
    ports: Ports = Ports()
    board: Board = Board()

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, data: Any) -> Any:
        """Put `engine.defaults` under each pool."""
        if not isinstance(data, Mapping) or not isinstance(engine := data.get("engine"), Mapping):
            return data
        engine = dict(engine)
        defaults, pools = engine.pop("defaults", None) or {}, engine.get("pools")
        if not isinstance(defaults, Mapping):
            raise ValueError("engine.defaults must hold names and values, as a pool does")
        if isinstance(pools, Mapping):
            engine["pools"] = {name: _over(defaults, pool) for name, pool in pools.items()}
        return {**data, "engine": engine}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, pool in self.pools.items():
            if not pool.profile:
                raise ValueError(f"engine.pools.{name}.profile is missing: see `gptoss profiles`")
            if pool.autoscaling.enabled and not self.gateways:
                raise ValueError(
                    f"engine.pools.{name}.autoscaling goes by what gateways see: name their"
                    " operators' ports in `gateways`"
                )
        for url in self.gateways:
            if not _is_url(url):
                raise ValueError(f"gateways: {url!r} is no URL, such as http://10.0.0.5:8001")
        return self

    @property
    def pools(self) -> Mapping[str, Pool]:
        """By name."""
        return self.engine.pools


def read(path: Path) -> Fleet:
    """The fleet that a file describes. Raises `UserError`."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read {path}: {getattr(error, 'strerror', 'it is no text')}"
        ) from None
    try:
        return parse(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def parse(text: str) -> Fleet:
    """The fleet that YAML describes. Raises `UserError` with the first fault."""
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a date that there is not is no YAMLError
        mark = getattr(error, "problem_mark", None)
        raise UserError(f"is not YAML{f' at line {mark.line + 1}' if mark else ''}") from None
    if not isinstance(data, dict):
        raise UserError("must hold names and values, such as `engine: {pools: {…}}`")
    try:
        # The code's own names are for the code alone.
        return Fleet.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise UserError(f"{where}: {_said(first)}" if where else _said(first)) from None


def written(fleet: Fleet) -> str:
    """What `parse` reads as the same fleet."""
    return yaml.safe_dump(fleet.model_dump(mode="json", by_alias=True), sort_keys=False)


def schema() -> dict[str, Any]:
    """Made from the models; with `engine.defaults`, which is no more there once it is read."""
    made = Fleet.model_json_schema()
    engines = made["$defs"]["Engines"]["properties"]
    engines["pools"] = {
        "description": engines["pools"]["description"],
        "type": "object",
        "propertyNames": {"pattern": _NAME},
        "additionalProperties": {"$ref": "#/$defs/Pool"},
    }
    engines["defaults"] = {
        "$ref": "#/$defs/Pool",
        "description": "what pools do not say themselves",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _said(error: Any) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "there is no such name (`gptoss fleet schema` has all)"
        case "missing":
            return "is missing"
        case "string_pattern_mismatch":
            return "is no name: up to 15 small letters, digits and -, a letter first"
        case _:
            return str(error["msg"]).removeprefix("Value error, ")


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def _over(below: Any, above: Any) -> Any:
    """One mapping over another, name by name."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return below if above is None else above
    return {**below, **{name: _over(below.get(name), value) for name, value in above.items()}}
