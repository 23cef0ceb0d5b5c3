"""What one engine asks of the machine it is placed on: cards, memory, cores, and which machine.

Pure. The chart's data is made of it, so a pod asks for what `gptoss engine` will use.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from service.profiles.profile import Profile, Vendor

NODE_PRODUCT: Final = "nvidia.com/gpu.product"
"""NVIDIA's GPU feature discovery: the card's name, with `-` for each space."""
NODE_MEMORY: Final = "nvidia.com/gpu.memory"
"""Of one card, MiB, as `nvidia-smi` reads it."""
NODE_CAPABILITY: Final = "nvidia.com/gpu.compute.major"
NODE_AMD_DEVICE: Final = "amd.com/gpu.device-id"
"""AMD's node labeller: PCI device id, hexadecimal."""

_RESOURCES: Final = {Vendor.NVIDIA: "nvidia.com/gpu", Vendor.AMD: "amd.com/gpu"}

# The API server and the engine's core are busy all the time, and so is one process a card.
_CORES = 3
_CORES_PER_CARD = 2
# Python, CUDA and pinned buffers of these processes. Weights are read through the page cache, which
# counts against no request.
_MEMORY_GIB = 8
_MEMORY_PER_CARD_GIB = 8
# NCCL and vLLM's own queues between the processes of one engine.
_SHARED_GIB = 1
_SHARED_PER_CARD_GIB = 2


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One condition on a node's labels; operators are Kubernetes' (`In`, `Gt`)."""

    key: str
    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """What one engine asks for."""

    resource: str | None
    """Name under which the cluster counts cards; None on a CPU."""
    cards: int
    cores: int
    """Requested, not a limit: more is used while kernels are compiled."""
    memory_gib: int
    """Requested host memory, GiB."""
    shared_gib: int
    """Size of /dev/shm, GiB."""
    nodes: tuple[NodeTerm, ...]
    """All of them hold for a node that will do."""


def place(profile: Profile) -> Placement:
    """What an engine with this profile asks of its machine."""
    if profile.vendor is Vendor.CPU:
        memory = round(profile.memory_gib)
        return Placement(None, 0, 2, memory, _SHARED_GIB, ())
    cards = profile.gpus
    return Placement(
        resource=_RESOURCES[profile.vendor],
        cards=cards,
        cores=_CORES + _CORES_PER_CARD * cards,
        memory_gib=_MEMORY_GIB + _MEMORY_PER_CARD_GIB * cards,
        shared_gib=_SHARED_GIB + _SHARED_PER_CARD_GIB * cards,
        nodes=tuple(_terms(profile)),
    )


def label(product: str) -> str:
    """The node label's value for a card of that name."""
    return product.replace(" ", "-")


def _terms(profile: Profile) -> Iterator[NodeTerm]:
    if profile.vendor is Vendor.AMD:
        yield NodeTerm(NODE_AMD_DEVICE, "In", profile.products)
    elif profile.products:
        yield NodeTerm(NODE_PRODUCT, "In", tuple(map(label, profile.products)))
    else:
        yield NodeTerm(NODE_MEMORY, "Gt", (str(int(profile.memory_gib * 1024) - 1),))
        yield NodeTerm(NODE_CAPABILITY, "Gt", (str(int(profile.arch.split(".")[0]) - 1),))
