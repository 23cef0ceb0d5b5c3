"""Which GPUs this machine has, asked of the drivers' own tools.

A machine without a tool has no such GPUs. A tool that is there but fails is an error: a broken
driver must not quietly turn a GPU server into a CPU one.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from service.errors import UserError
from service.profiles.profile import GPU, Vendor

TIMEOUT: Final = 10.0
"""For a tool to answer, s. A hanging driver is a broken one."""

NVIDIA_SMI: Final = (
    "nvidia-smi",
    "--query-gpu=index,uuid,name,memory.total,compute_cap",
    "--format=csv,noheader,nounits",
)
AMD_SMI: Final = ("amd-smi", "static", "--asic", "--vram", "--json")
ROCM_SMI: Final = ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json")

_MIB_PER_GIB: Final = 1024
_BYTES_PER_GIB: Final = 1 << 30
_OVERRIDE = "or run without it: PROFILE=cpu-dev"


def detect() -> tuple[GPU, ...]:
    """The GPUs that this process may use; empty when there are none."""
    nvidia = parse_nvidia(_run(NVIDIA_SMI), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return nvidia or _detect_amd()


def _detect_amd() -> tuple[GPU, ...]:
    visible = os.environ.get("HIP_VISIBLE_DEVICES") or os.environ.get("ROCR_VISIBLE_DEVICES")
    if shutil.which(AMD_SMI[0]):
        return parse_amd_smi(_run(AMD_SMI), visible)
    return parse_rocm_smi(_run(ROCM_SMI), visible)


def parse_nvidia(output: str, visible: str | None = None) -> tuple[GPU, ...]:
    """Cards from nvidia-smi's CSV. It ignores CUDA_VISIBLE_DEVICES, so that is applied here."""
    rows = [line.split(", ") for line in output.splitlines() if line.strip()]
    named = {}
    for row in rows:
        try:
            index, uuid, name, memory, capability = row
            card = GPU(
                vendor=Vendor.NVIDIA,
                name=name,
                memory_gib=float(memory) / _MIB_PER_GIB,
                arch=_checked_capability(capability),
                index=int(index),
            )
        except ValueError:
            raise UserError(
                f"nvidia-smi does not tell this card's memory and capability: {', '.join(row)!r} "
                f"(a MIG slice, unified memory, or an old driver): give the engine a whole card, "
                f"update the driver, {_OVERRIDE}"
            ) from None
        named[uuid] = card
    return _visible(named, visible)


def parse_amd_smi(output: str, visible: str | None = None) -> tuple[GPU, ...]:
    """Cards from `amd-smi static`: a list, or since ROCm 7 an object that holds it."""
    document = _json(output, "amd-smi")
    entries = document.get("gpu_data", []) if isinstance(document, dict) else document
    cards = {}
    for entry in entries:
        with _readable("amd-smi", entry):
            size = entry["vram"]["size"]
            cards[str(entry["gpu"])] = GPU(
                vendor=Vendor.AMD,
                name=entry["asic"]["market_name"],
                memory_gib=float(size["value"] if isinstance(size, dict) else size) / _MIB_PER_GIB,
                arch=entry["asic"]["target_graphics_version"],
                index=int(entry["gpu"]),
            )
    return _visible(cards, visible)


def parse_rocm_smi(output: str, visible: str | None = None) -> tuple[GPU, ...]:
    """Cards from `rocm-smi --json`, whose keys changed case between releases."""
    document = _json(output, "rocm-smi")
    cards = {}
    for card, values in document.items() if isinstance(document, dict) else ():
        if not card.startswith("card"):
            continue  # "system": the driver's version
        fields = {key.lower(): value for key, value in values.items()}
        with _readable("rocm-smi", values):
            cards[card] = GPU(
                vendor=Vendor.AMD,
                name=fields["card series"],
                memory_gib=float(fields["vram total memory (b)"]) / _BYTES_PER_GIB,
                arch=fields["gfx version"],
                index=int(card.removeprefix("card")),
            )
    return _visible(cards, visible)


def _visible(cards: Mapping[str, GPU], visible: str | None) -> tuple[GPU, ...]:
    """The cards that a *_VISIBLE_DEVICES variable leaves: numbers or unique ids, in its order.

    As in CUDA, the first name that is no card ends the list, and an empty list hides all.
    """
    if visible is None:
        return tuple(cards.values())
    chosen: list[GPU] = []
    for wanted in (part.strip() for part in visible.split(",")):
        if wanted.startswith("MIG"):
            raise UserError(
                f"{wanted} is a MIG slice, and profiles are made for whole cards: "
                f"give the engine a whole card, {_OVERRIDE}"
            )
        found = [
            card
            for name, card in cards.items()
            if wanted and (wanted == str(card.index) or name.startswith(wanted))
        ]
        if len(found) != 1:
            break
        chosen.append(found[0])
    return tuple(chosen)


def _checked_capability(text: str) -> str:
    float(text)  # "[N/A]" on a driver too old for it
    return text


def _run(command: Sequence[str]) -> str:
    """The tool's output; nothing when the tool is absent."""
    tool = command[0]
    if shutil.which(tool) is None:
        return ""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{tool} did not answer in {TIMEOUT:.0f} s: the driver hangs, restart the machine "
            f"{_OVERRIDE}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot run {tool}: {error.strerror}; mend it {_OVERRIDE}") from None
    if done.returncode != 0:
        said = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[0]
        raise UserError(
            f"{tool} failed with status {done.returncode} and said {said!r}: mend the GPU driver "
            f"{_OVERRIDE}"
        )
    return done.stdout


@contextmanager
def _readable(tool: str, entry: object) -> Iterator[None]:
    """Turns a surprise in a tool's document into one line that shows it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError):
        text = json.dumps(entry)[:200]
        raise UserError(f"cannot read a card from {tool}: {text}; mend ROCm {_OVERRIDE}") from None


def _json(output: str, tool: str) -> Any:
    if not output.strip():
        return {}
    try:
        return json.loads(output)
    except ValueError:
        first = output.strip().splitlines()[0]
        raise UserError(
            f"{tool} did not print JSON but {first!r}: update ROCm {_OVERRIDE}"
        ) from None
