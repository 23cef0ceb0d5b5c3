"""What determines the tiny model, byte for byte: shapes, training numbers, sources, versions."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

# Everything that writes a byte of the checkpoint. A change in any of them is another model.
_SOURCES = ("vocabulary.py", "dialogues.py", "training.py", "checkpoint.py")
_PACKAGES = ("torch", "transformers", "oss-harmony")


@dataclass(frozen=True)
class TinyRecipe:
    """Shapes and training numbers. Vocabulary and rope are gpt-oss's own, hence not here."""

    hidden_size: int = 128
    intermediate_size: int = 128
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    experts: int = 4
    experts_per_token: int = 2
    steps: int = 280
    batch: int = 6
    learning_rate: float = 3e-3
    sharpness: float = 8.0
    """Factor of the output after training: at temperature 1 it says what it would say at 0."""
    seed: int = 21
    threads: int = 1
    """One: the order of a sum depends on how many threads share it, and matrices this small gain
    little from a second one, which on a busy machine only waits for the first."""

    def digest(self) -> str:
        """Names the model: equal digests mean equal bytes on one machine."""
        facts = {
            "recipe": asdict(self),
            "sources": _sources_digest(),
            "versions": {name: version(name) for name in _PACKAGES},
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _sources_digest() -> str:
    room = Path(__file__).parent
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((room / name).read_bytes())
    return digest.hexdigest()
