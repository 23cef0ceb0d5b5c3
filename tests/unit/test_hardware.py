"""What the drivers' tools print becomes cards; what they complain of becomes one line."""

import json
from pathlib import Path

import pytest

from service.engine import hardware
from service.errors import UserError
from service.profiles import Vendor

H100_PAIR = """\
0, GPU-5a6f4c1e-0c0d-4e6b-9a7e-1f2d3c4b5a60, NVIDIA H100 80GB HBM3, 81559, 9.0
1, GPU-9b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0, NVIDIA H100 80GB HBM3, 81559, 9.0
"""
MIXED = (
    "0, GPU-0000, NVIDIA RTX 6000 Ada Generation, 49140, 8.9\n"
    "1, GPU-1111, NVIDIA GeForce GT 1030, 2048, 6.1\n"
)
MIG_CONTAINER = "0, GPU-5a6f, NVIDIA A100-SXM4-80GB, [Insufficient Permissions], 8.0\n"
SPARK = "0, GPU-77aa, NVIDIA GB10, [N/A], 12.1\n"

ROCM_SMI = {
    "card0": {
        "VRAM Total Memory (B)": "206141652992",
        "VRAM Total Used Memory (B)": "297336832",
        "Card Series": "AMD Instinct MI300X OAM",
        "Card Model": "0x74a1",
        "Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]",
        "Card SKU": "M3000100",
        "Node ID": "2",
        "GUID": "41632",
        "GFX Version": "gfx942",
    },
    "system": {"Driver version": "6.8.5"},
}
AMD_SMI = [
    {
        "gpu": 0,
        "asic": {
            "market_name": "AMD Instinct MI300X OAM",
            "vendor_id": "0x1002",
            "device_id": "0x74a1",
            "num_compute_units": 304,
            "target_graphics_version": "gfx942",
        },
        "vram": {
            "type": "HBM",
            "vendor": "N/A",
            "size": {"value": 196592, "unit": "MB"},
            "bit_width": 8192,
        },
    }
]


def test_nvidia_cards() -> None:
    first, second = hardware.parse_nvidia(H100_PAIR)
    assert (first.name, first.arch, first.index) == ("NVIDIA H100 80GB HBM3", "9.0", 0)
    assert first.vendor is Vendor.NVIDIA
    assert first.memory_gib == pytest.approx(79.65, abs=0.01)
    assert second.index == 1


def test_no_output_is_no_cards() -> None:
    assert hardware.parse_nvidia("") == ()
    assert hardware.parse_amd_smi("") == ()
    assert hardware.parse_rocm_smi("") == ()


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1", ["NVIDIA GeForce GT 1030"]),
        ("1,0", ["NVIDIA GeForce GT 1030", "NVIDIA RTX 6000 Ada Generation"]),
        ("GPU-11", ["NVIDIA GeForce GT 1030"]),
        ("", []),
        ("-1", []),
        ("0,7,1", ["NVIDIA RTX 6000 Ada Generation"]),
    ],
)
def test_cuda_visible_devices_counts_although_nvidia_smi_ignores_it(
    visible: str, names: list[str]
) -> None:
    assert [gpu.name for gpu in hardware.parse_nvidia(MIXED, visible)] == names


def test_mig_slices_are_refused() -> None:
    with pytest.raises(UserError, match="MIG slice"):
        hardware.parse_nvidia(H100_PAIR, "MIG-41b35014-2a68-5a8b-8b7a-0f1d6b6a8b1d")


@pytest.mark.parametrize("output", [MIG_CONTAINER, SPARK, "garbage\n"])
def test_a_card_that_does_not_tell_its_memory_is_refused(output: str) -> None:
    with pytest.raises(UserError, match="whole card") as error:
        hardware.parse_nvidia(output)
    assert "\n" not in str(error.value)


def test_amd_cards_from_rocm_smi_in_either_spelling() -> None:
    (card,) = hardware.parse_rocm_smi(json.dumps(ROCM_SMI))
    assert (card.vendor, card.name, card.arch) == (Vendor.AMD, "AMD Instinct MI300X OAM", "gfx942")
    assert card.memory_gib == pytest.approx(191.98, abs=0.01)
    older = json.dumps(ROCM_SMI).replace("Card Series", "Card series")
    assert hardware.parse_rocm_smi(older) == (card,)


def test_amd_cards_from_amd_smi_old_and_new() -> None:
    (card,) = hardware.parse_amd_smi(json.dumps(AMD_SMI))
    assert (card.name, card.arch, card.index) == ("AMD Instinct MI300X OAM", "gfx942", 0)
    assert card.memory_gib == pytest.approx(191.98, abs=0.01)
    assert hardware.parse_amd_smi(json.dumps({"gpu_data": AMD_SMI})) == (card,)


@pytest.mark.parametrize(
    "output", ["WARNING: no GPU", '[{"gpu": 0}]', '[{"gpu": 0, "vram": "N/A"}]']
)
def test_surprises_from_amd_smi_are_one_line(output: str) -> None:
    with pytest.raises(UserError, match="cpu-dev") as error:
        hardware.parse_amd_smi(output)
    assert "\n" not in str(error.value)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An otherwise empty PATH with made-up tools."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def tool(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_no_tool_is_no_gpu(tools: Path) -> None:
    assert hardware.detect() == ()


def test_detect_reads_nvidia_smi(tools: Path) -> None:
    tool(tools, "nvidia-smi", f"printf '%s' '{H100_PAIR}'")
    assert len(hardware.detect()) == 2


def test_detect_reads_rocm_smi_without_amd_smi(tools: Path) -> None:
    tool(tools, "rocm-smi", f"printf '%s' '{json.dumps(ROCM_SMI)}'")
    assert [gpu.arch for gpu in hardware.detect()] == ["gfx942"]


def test_a_broken_driver_is_not_a_cpu_machine(tools: Path) -> None:
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    tool(tools, "nvidia-smi", f'echo "{said}"; echo; exit 9')
    with pytest.raises(UserError, match="status 9") as error:
        hardware.detect()
    assert "communicate" in str(error.value)
    assert "PROFILE=cpu-dev" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_hanging_driver_is_given_up(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "TIMEOUT", 0.2)
    tool(tools, "nvidia-smi", "exec /bin/sleep 30")
    with pytest.raises(UserError, match="did not answer"):
        hardware.detect()


def test_a_tool_that_cannot_run_is_one_line(tools: Path) -> None:
    (tools / "nvidia-smi").write_text("not a program")
    (tools / "nvidia-smi").chmod(0o755)
    with pytest.raises(UserError, match="cannot run nvidia-smi"):
        hardware.detect()
