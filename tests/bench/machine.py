"""What a run ran on, in one line."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """The processors, the kernel, and Python."""
    return (
        f"{_processor()}, {os.cpu_count()} cores, Linux {platform.release()},"
        f" Python {platform.python_version()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split()).replace("(R)", "").replace("(TM)", "")
    return platform.machine()
