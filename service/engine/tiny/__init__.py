"""A genuine gpt-oss, tiny and trained on this machine: the engine without a GPU or a download.

Importing this package costs milliseconds; torch and transformers load only while building.
"""

from service.engine.tiny.cache import Progress, ensure, found, is_built, location
from service.engine.tiny.recipe import TinyRecipe

__all__ = ["Progress", "TinyRecipe", "ensure", "found", "is_built", "location"]
