"""The tiny model's recipe and import, without torch."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from service.engine.tiny import TinyRecipe, ensure, is_built, location


def test_the_same_recipe_has_the_same_digest() -> None:
    assert TinyRecipe().digest() == TinyRecipe().digest()


@pytest.mark.parametrize(
    "change", [{"steps": 1}, {"seed": 1}, {"hidden_size": 256}, {"learning_rate": 0.5}]
)
def test_every_number_changes_the_digest(change: dict[str, float]) -> None:
    assert replace(TinyRecipe(), **change).digest() != TinyRecipe().digest()  # type: ignore[arg-type]


def test_a_package_version_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = TinyRecipe().digest()
    monkeypatch.setattr("service.engine.tiny.recipe.version", lambda name: f"{name} 0")
    assert TinyRecipe().digest() != before


def test_the_location_is_named_after_the_digest(tmp_path: Path) -> None:
    recipe = replace(TinyRecipe(), seed=3)
    assert location(tmp_path, recipe).parent == tmp_path
    assert recipe.digest() in location(tmp_path, recipe).name
    assert not is_built(tmp_path, recipe)


def test_what_is_built_is_not_built_again(tmp_path: Path) -> None:
    location(tmp_path).mkdir()
    notes: list[str] = []
    assert ensure(tmp_path, lambda fraction, note: notes.append(note)) == location(tmp_path)
    assert notes == []


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, service.engine.tiny; "
        "print({'torch', 'transformers', 'openai_harmony', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
