"""Facts of the models this service runs: shapes, and the bytes that follow from them. Pure."""

from service.models.known import MODELS, find
from service.models.model import GIB, Layout, Model

__all__ = ["GIB", "MODELS", "Layout", "Model", "find"]
