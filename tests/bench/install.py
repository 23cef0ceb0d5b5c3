"""`python -m tests.bench.install`: the peers from the package index, in an environment apart."""

import sys
from pathlib import Path
from typing import Final

from tests.own_environment import OwnEnvironment

ENVIRONMENT: Final = OwnEnvironment(
    "bench",
    Path(__file__).with_name("requirements.txt"),
    "vllm-router, LiteLLM and what they need (0.7 GB)",
)

if __name__ == "__main__":
    sys.exit(ENVIRONMENT.install())
