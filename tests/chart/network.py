"""NetworkPolicies, evaluated: whether one place can open a connection to a port of another.

A connection needs both ends: the policies that select its source must let it out, and those that
select its target must let it in. A pod that no policy selects, for a direction, is free in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Final

from tests.chart.pods import Pod
from tests.chart.render import NAMESPACE, Objects, some

NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True)
class Place:
    """A pod of a namespace, or an address outside of the cluster."""

    name: str
    address: str = "10.20.0.9"
    namespace: Mapping[str, str] | None = None
    """The labels of its namespace; None outside."""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def outside(address: str) -> Place:
    return Place(address, address)


def elsewhere(namespace: str, **labels: str) -> Place:
    """A pod in a namespace that is not the release's."""
    return Place(f"a pod in {namespace}", namespace={NAMESPACE_NAME: namespace}, labels=labels)


def within(pod: Pod) -> Place:
    """A pod of the release."""
    return Place(str(pod), "10.20.0.7", {NAMESPACE_NAME: NAMESPACE}, pod.labels, pod.ports)


class Policies:
    """All NetworkPolicies of a render."""

    def __init__(self, objects: Objects) -> None:
        self._policies = [one.spec for one in some(objects, "NetworkPolicy")]

    def allow(self, source: Place, target: Place, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection can be opened."""
        return self._passes("Egress", source, target, target, port, protocol) and self._passes(
            "Ingress", target, source, target, port, protocol
        )

    def select(self, place: Place, direction: str) -> list[Mapping[str, Any]]:
        """The policies for a pod in a direction."""
        if place.namespace is None or place.namespace.get(NAMESPACE_NAME) != NAMESPACE:
            return []
        return [
            policy
            for policy in self._policies
            if direction in _directions(policy) and _selects(policy["podSelector"], place.labels)
        ]

    def _passes(
        self, direction: str, own: Place, peer: Place, target: Place, port: int, protocol: str
    ) -> bool:
        policies = self.select(own, direction)
        sides = {"Egress": ("egress", "to"), "Ingress": ("ingress", "from")}
        rules, peers = sides[direction]
        return not policies or any(
            _reaches(rule.get(peers), peer) and _opens(rule.get("ports"), target, port, protocol)
            for policy in policies
            for rule in policy.get(rules) or ()
        )


def _directions(policy: Mapping[str, Any]) -> list[str]:
    types: list[str] = policy["policyTypes"]
    assert types, "the default of policyTypes depends on what else is there: say it"
    return types


def _reaches(peers: Iterable[Mapping[str, Any]] | None, place: Place) -> bool:
    """Whether the place is one of a rule's peers; no peers at all are everybody."""
    return not peers or any(_is(peer, place) for peer in peers)


def _is(peer: Mapping[str, Any], place: Place) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        address = ip_address(place.address)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(hole) for hole in block.get("except") or ()
        )
    assert peer.keys() <= {"podSelector", "namespaceSelector"}, peer
    assert peer, "a peer without a selector is refused by the API server"
    if place.namespace is None:
        return False
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], place.namespace):
            return False
    elif place.namespace.get(NAMESPACE_NAME) != NAMESPACE:
        return False
    return "podSelector" not in peer or _selects(peer["podSelector"], place.labels)


def _opens(
    ports: Iterable[Mapping[str, Any]] | None, target: Place, port: int, protocol: str
) -> bool:
    """Whether the port is one of a rule's; no ports at all are every port."""
    return not ports or any(
        one.get("protocol", "TCP") == protocol and _covers(one, target, port) for one in ports
    )


def _covers(one: Mapping[str, Any], target: Place, port: int) -> bool:
    first = one.get("port")
    if first is None:
        return True
    if isinstance(first, str):
        return target.ports.get(first) == port
    return int(first) <= port <= int(one.get("endPort", first))


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """As label selectors do it: an empty one selects everything."""
    return (selector.get("matchLabels") or {}).items() <= labels.items() and all(
        _meets(one["operator"], labels.get(one["key"]), one.get("values") or ())
        for one in selector.get("matchExpressions") or ()
    )


def _meets(operator: str, value: str | None, values: Sequence[str]) -> bool:
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(operator)
