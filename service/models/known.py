"""The models there are."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from service.errors import UserError
from service.models.model import Model

GPT_OSS_120B: Final = Model(
    name="gpt-oss-120b",
    repo="openai/gpt-oss-120b",
    experts_format="mxfp4",
    layers=36,
    hidden=2880,
    intermediate=2880,
    heads=64,
    kv_heads=8,
    head_dim=64,
    experts=128,
    experts_per_token=4,
)

GPT_OSS_20B: Final = Model(
    name="gpt-oss-20b",
    repo="openai/gpt-oss-20b",
    experts_format="mxfp4",
    layers=24,
    hidden=2880,
    intermediate=2880,
    heads=64,
    kv_heads=8,
    head_dim=64,
    experts=32,
    experts_per_token=4,
)

# Random weights in the real architecture with the real vocabulary: built by `service.engine.tiny`,
# for tests and development. Not quantised, because MXFP4 on a CPU needs AMX.
GPT_OSS_TINY: Final = Model(
    name="gpt-oss-tiny",
    repo=None,
    experts_format="bf16",
    layers=2,
    hidden=128,
    intermediate=128,
    heads=4,
    kv_heads=2,
    head_dim=32,
    experts=4,
    experts_per_token=2,
    extra_download_bytes=0,
)

MODELS: Final[Mapping[str, Model]] = MappingProxyType(
    {model.name: model for model in (GPT_OSS_120B, GPT_OSS_20B, GPT_OSS_TINY)}
)
"""By name, largest first."""


def find(name: str) -> Model:
    """The model of that name, with or without its organisation (`openai/gpt-oss-20b`)."""
    model = MODELS.get(name.strip().lower().removeprefix("openai/"))
    if model is None:
        raise UserError(f"no model is called {name!r}: choose one of {', '.join(MODELS)}")
    return model
