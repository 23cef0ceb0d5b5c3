"""`python -m tests.crosscheck.install`: GuideLLM, in an environment of its own."""

import sys
from pathlib import Path
from typing import Final

from tests.own_environment import OwnEnvironment

_ENVIRONMENT: Final = OwnEnvironment(
    "crosscheck",
    Path(__file__).with_name("requirements.txt"),
    "GuideLLM and what it needs (1.2 GB)",
)
GUIDELLM: Final = _ENVIRONMENT.program("guidellm")

if __name__ == "__main__":
    sys.exit(_ENVIRONMENT.install())
