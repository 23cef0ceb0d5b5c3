"""The load test is a client like any other: it needs nothing of the service, nor an engine."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
ALIEN: Final = ("service", "vllm", "torch", "transformers", "pandas")
EVERYTHING: Final = """
import pkgutil, sys, loadtest
for one in pkgutil.walk_packages(loadtest.__path__, "loadtest."):
    if not one.name.endswith("__main__"):
        __import__(one.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_it_imports_nothing_of_the_service_nor_of_an_engine() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", EVERYTHING], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = set(ran.stdout.split())
    assert {"loadtest", "numpy", "aiohttp"} <= imported
    assert not imported & set(ALIEN)


@pytest.mark.parametrize("lacking", ["numpy", "plotly"])
def test_without_its_extra_it_says_what_to_install(lacking: str) -> None:
    hidden = (
        "import importlib.util as util, sys; find = util.find_spec;"
        f"util.find_spec = lambda name: None if name == {lacking!r} else find(name);"
        "from loadtest.cli.entry import main; main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.strip() == (
        f"gptoss-loadtest lacks {lacking}: pip install 'gptoss-serving[loadtest]'"
    )


def test_ctrl_c_while_it_is_read_in_is_one_line() -> None:
    pressed = (
        "import builtins; read = builtins.__import__\n"
        "def press(name, *rest):\n"
        "    if name == 'typer': raise KeyboardInterrupt\n"
        "    return read(name, *rest)\n"
        "builtins.__import__ = press\n"
        "from loadtest.cli.entry import main; main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", pressed], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (130, "stopped\n")


def test_no_module_is_longer_than_a_reader_has_patience() -> None:
    long = [path for path in (ROOT / "loadtest").rglob("*.py") if _lines(path) > 400]
    assert not long


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())
