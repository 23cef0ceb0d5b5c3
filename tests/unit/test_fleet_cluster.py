"""What Ray says is said again in one line, with what to do. Ray's own messages, made by Ray."""

import importlib
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest

ray = pytest.importorskip("ray")

from ray import cloudpickle  # noqa: E402
from ray._private import utils  # noqa: E402
from ray.exceptions import RayTaskError  # noqa: E402

from service.errors import UserError  # noqa: E402
from service.fleet.cluster import (  # noqa: E402
    _node,
    _not_run,
    _refused,
    _split,
    connect,
)
from service.fleet.room import ACCELERATOR  # noqa: E402
from tests.process import free_port  # noqa: E402

OURS: Final = utils.compute_version_info()


def refusal(**theirs: str) -> str:
    """Ray's, of a cluster with these versions."""
    cluster = {"ray_version": OURS[0], "python_version": OURS[1], **theirs}
    with pytest.raises(RuntimeError) as caught:
        utils.check_version_info(cluster, "node 127.0.0.1:0", python_version_match_level="patch")
    return str(caught.value)


# Versions


@pytest.mark.parametrize(
    "theirs",
    [
        {"ray_version": "2.9.0"},
        {"python_version": "3.9.1"},
        {"ray_version": "3.0.0.dev0", "python_version": "3.14.0"},
    ],
)
def test_another_version_is_one_line_with_both(theirs: dict[str, str]) -> None:
    said = _refused(refusal(**theirs))
    assert "\n" not in said
    cluster = {"ray_version": OURS[0], "python_version": OURS[1], **theirs}
    there = f"the cluster runs Ray: {cluster['ray_version']}, Python: {cluster['python_version']}"
    assert there in said
    assert f"this is Ray: {OURS[0]}, Python: {OURS[1]}" in said
    assert "install" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Maybe you called ray.init twice by accident?", "Maybe you called ray.init twice"),
        ("\n  first\nsecond\n", "first"),
        ("", "no reason given"),
    ],
)
def test_what_else_ray_refuses_is_its_first_line(text: str, said: str) -> None:
    assert _refused(text).startswith(f"Ray refuses: {said}")
    assert "\n" not in _refused(text)


# Addresses


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("10.0.0.5:6379", "10.0.0.5", 6379),
        ("head.corp:6380", "head.corp", 6380),
        ("[fd00::5]:6379", "fd00::5", 6379),
    ],
)
def test_an_address_is_host_and_port(address: str, host: str, port: int) -> None:
    assert _split(address) == (host, port)


@pytest.mark.parametrize(
    "address",
    [
        *("auto", "local", "ray://10.0.0.5:10001", "http://10.0.0.5:8265"),
        *("10.0.0.5", ":6379", "10.0.0.5:", "10.0.0.5:port"),
    ],
)
def test_what_is_no_address_of_a_head_is_one_line(address: str) -> None:
    with pytest.raises(UserError) as caught:
        _split(address)
    assert repr(address) in str(caught.value)
    assert "10.0.0.5:6379" in str(caught.value), "what to write"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.2", "nobody.invalid", "a..b"])
def test_a_head_that_is_not_there_is_one_line(host: str) -> None:
    """Whatever is wrong with its name; Ray itself is not begun."""
    address = f"{host}:{free_port()}"
    with pytest.raises(UserError) as caught:
        connect(address, "gptoss")
    message = str(caught.value)
    assert "\n" not in message
    assert host in message
    assert not ray.is_initialized()


def test_where_no_head_is_named_the_variable_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.2:{port}")
    with pytest.raises(UserError, match=f"no Ray head answers at 127.0.0.2:{port} .*ray start"):
        connect(None, "gptoss")


# Functions that do not run


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One that is here, and on no node."""
    path = tmp_path / "fleet_of_tests.py"
    path.write_text("def complaint():\n    raise ValueError('first\\nlast')\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield path
    sys.modules.pop("fleet_of_tests", None)


def on_a_node(path: Path, there: str | None) -> RayTaskError:
    """What Ray says where the module is not, or has that text."""
    function = importlib.import_module("fleet_of_tests").complaint
    sent = {
        "function_name": "complaint",
        "module": "fleet_of_tests",
        "function": cloudpickle.dumps(function),
        "max_calls": 0,
    }
    sys.modules.pop("fleet_of_tests")
    path.unlink()
    if there is not None:
        path.write_text(there)
    importlib.invalidate_caches()
    run = _worker(sent)
    try:
        run()
    except Exception as error:
        return RayTaskError("complaint", traceback.format_exc(), error, ip="127.0.0.1")
    raise AssertionError("it ran")


def _worker(sent: Mapping[str, object]) -> Callable[[], object]:
    """The function as a worker of Ray gets it."""
    from ray._private.function_manager import FunctionActorManager
    from ray._raylet import FunctionID, JobID

    job, function = JobID.from_int(1), FunctionID(b"f" * FunctionID.size())
    fields = {**sent, "job_id": job.binary(), "function_id": function.binary()}
    client = SimpleNamespace(internal_kv_get=lambda *_, **__: pickle.dumps(fields))
    manager = FunctionActorManager(SimpleNamespace(gcs_client=client))
    manager.fetch_and_register_remote_function(b"RemoteFunction:key")
    run: Callable[[], object] = manager._function_execution_info[function].function
    return run


LACKING: Final = "has no gptoss-serving of this version beside its Ray: install it there"


def test_a_node_without_the_service_is_one_line(module: Path) -> None:
    said = _not_run(on_a_node(module, None))
    assert said.startswith(LACKING)
    assert "\n" not in said


def test_a_node_whose_service_cannot_be_imported_is_one_line(module: Path) -> None:
    said = _not_run(on_a_node(module, "import nothing_that_there_is"))
    assert said.startswith(LACKING)


def test_a_node_with_a_service_that_knows_no_fleets_is_one_line(module: Path) -> None:
    said = _not_run(on_a_node(module, "# of before there was such a function\n"))
    assert said.startswith(LACKING)


def test_what_else_goes_wrong_there_is_its_last_line(module: Path) -> None:
    text = module.read_text()
    assert _not_run(on_a_node(module, text)) == "last"


# Nodes


def test_a_node_is_what_ray_says_of_it() -> None:
    entry = {
        "NodeID": "id",
        "Alive": True,
        "NodeManagerAddress": "10.0.0.7",
        "NodeName": "alpha",
        "Resources": {
            "CPU": 64.0,
            "GPU": 8.0,
            "memory": 1e11,
            "object_store_memory": 1e9,
            "node:10.0.0.7": 1.0,
            f"{ACCELERATOR}H100": 1.0,
        },
        "Labels": {"ray.io/node-id": "id", "rack": "a"},
    }
    free = {"CPU": 60.0, "GPU": 6.0, "memory": 9e10}
    node = _node(entry, free)
    assert (node.id, node.name, node.address) == ("id", "alpha", "10.0.0.7")
    assert (node.cards, node.free_cards, node.free_cores, node.free_memory) == (8, 6, 60, 9e10)
    assert node.accelerators == {"H100"}
    assert ("rack", "a") in node.labels


def test_what_ray_does_not_name_is_all_taken() -> None:
    """It leaves out what a node has nothing of."""
    entry = {
        "NodeID": "id",
        "NodeManagerAddress": "10.0.0.7",
        "NodeName": "alpha",
        "Resources": {"GPU": 1.0},
        "Labels": {},
    }
    node = _node(entry, {})
    assert (node.cards, node.free_cards, node.free_cores, node.free_memory) == (1, 0, 0, 0)
