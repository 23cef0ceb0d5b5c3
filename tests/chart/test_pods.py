"""Every container of every pod: least rights, known needs, nothing secret in plain text."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.chart.pod_security import breaches
from tests.chart.pods import Container, Pod, containers, pods, strings
from tests.chart.render import EVERY_API, Object, overlay, overlays, render, rendered, some

every_overlay = pytest.mark.parametrize("name", overlays())

QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?([KMGTP]i?|m|k)?")
SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|_URL$", re.IGNORECASE)
URL_WITH_PASSWORD = re.compile(r"[a-z+]+://[^\s/@]*:[^\s/@]+@")


@every_overlay
def test_a_namespace_that_enforces_restricted_takes_every_pod(name: str) -> None:
    for pod in pods(rendered(name)):
        assert not breaches(pod), "\n".join(breaches(pod))


@every_overlay
def test_no_container_writes_to_its_image(name: str) -> None:
    for container in containers(rendered(name)):
        assert container.body["securityContext"]["readOnlyRootFilesystem"] is True, str(container)


def test_only_an_engine_may_be_let_write_to_its_image() -> None:
    values = overlay("minimal", engine={"defaults": {"readOnlyRootFilesystem": False}})
    for container in containers(render(values, apis=EVERY_API)):
        read_only = container.body["securityContext"]["readOnlyRootFilesystem"]
        assert read_only is not (container.name == "engine"), str(container)


@every_overlay
def test_nobody_gets_the_rights_of_an_account(name: str) -> None:
    for pod in pods(rendered(name)):
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["serviceAccountName"] != "default"
    for account in some(rendered(name), "ServiceAccount"):
        assert account.body["automountServiceAccountToken"] is False
    kinds = {one.kind for one in rendered(name)}
    assert not kinds & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


@every_overlay
def test_no_service_of_the_namespace_becomes_a_variable(name: str) -> None:
    """A Service `vllm` would set VLLM_PORT, and `gptoss` GPTOSS_…, which are settings."""
    assert all(pod.spec["enableServiceLinks"] is False for pod in pods(rendered(name)))


@every_overlay
def test_every_container_says_what_it_needs(name: str) -> None:
    for container in containers(rendered(name)):
        resources = container.body["resources"]
        assert resources["requests"].keys() >= {"cpu", "memory"}, str(container)
        for kind in ("requests", "limits"):
            for resource, quantity in (resources.get(kind) or {}).items():
                assert isinstance(quantity, str), f"{container} {kind} {resource}: {quantity!r}"
                assert QUANTITY.fullmatch(quantity), f"{container} {resource}: {quantity}"
        for resource, quantity in (resources.get("limits") or {}).items():
            if "/" in resource:
                assert resources["requests"].get(resource, quantity) == quantity


@every_overlay
def test_no_pod_can_fill_its_node(name: str) -> None:
    for pod in pods(rendered(name)):
        for volume in pod.volumes.values():
            if "emptyDir" in volume:
                limit = volume["emptyDir"]["sizeLimit"]
                assert isinstance(limit, str), f"{pod} {volume['name']}"
                assert QUANTITY.fullmatch(limit)


@every_overlay
def test_every_place_that_is_written_is_a_volume(name: str) -> None:
    """With a root that cannot be written: /tmp at least, and every folder that is a setting."""
    for pod in pods(rendered(name)):
        for container in pod.containers:
            mounts = [m["mountPath"] for m in container.body.get("volumeMounts") or ()]
            assert len(mounts) == len(set(mounts)), str(container)
            if pod.component not in ("valkey",):
                assert "/tmp" in mounts, str(container)


@every_overlay
def test_a_volume_is_mounted_somewhere(name: str) -> None:
    for pod in pods(rendered(name)):
        mounted = {m["name"] for c in pod.containers for m in c.body.get("volumeMounts") or ()}
        assert pod.volumes.keys() <= mounted, str(pod)


@every_overlay
def test_a_variable_is_set_once(name: str) -> None:
    for container in containers(rendered(name)):
        names = [variable["name"] for variable in container.variables]
        assert len(names) == len(set(names)), f"{container}: {sorted(names)}"
        for variable in container.variables:
            assert isinstance(variable.get("value", ""), str), f"{container}: {variable}"


@every_overlay
def test_no_secret_is_in_plain_text(name: str) -> None:
    for container in containers(rendered(name)):
        assert not list(_plain(container)), str(container)
    for one in rendered(name):
        if one.kind != "Secret":
            found = [text for text in strings(one.body) if URL_WITH_PASSWORD.search(text)]
            assert not found, f"{one}: {found}"


def _plain(container: Container) -> Iterator[str]:
    for variable in container.variables:
        if SECRET_NAME.search(variable["name"]) and "value" in variable:
            yield variable["name"]


@every_overlay
def test_images_come_when_they_are_missing_and_are_no_surprise(name: str) -> None:
    for container in containers(rendered(name)):
        assert container.body["imagePullPolicy"] == "IfNotPresent"


@every_overlay
def test_a_pod_runs_as_one_user_who_owns_its_volumes(name: str) -> None:
    for pod in pods(rendered(name)):
        security = pod.spec["securityContext"]
        assert security["runAsUser"] > 0
        assert security["fsGroup"] == security["runAsGroup"]


# The checker itself: each row of the standard has a pod that breaks it.
GOOD: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "x",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
}
OF_POD: list[Mapping[str, Any]] = [
    {"hostNetwork": True},
    {"hostPID": True},
    {"hostIPC": True},
    {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]},
    {"volumes": [{"name": "x", "nfs": {}}]},
    {"securityContext": {"runAsNonRoot": True}},
    {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},
    {"securityContext": {**GOOD["securityContext"], "runAsNonRoot": False}},
    {"securityContext": {**GOOD["securityContext"], "runAsUser": 0}},
    {"securityContext": {**GOOD["securityContext"], "seccompProfile": {"type": "Unconfined"}}},
    {"securityContext": {**GOOD["securityContext"], "sysctls": [{"name": "kernel.msgmax"}]}},
    {"securityContext": {**GOOD["securityContext"], "seLinuxOptions": {"type": "spc_t"}}},
    {"securityContext": {**GOOD["securityContext"], "seLinuxOptions": {"user": "x"}}},
    {"securityContext": {**GOOD["securityContext"], "windowsOptions": {"hostProcess": True}}},
    {"securityContext": {**GOOD["securityContext"], "appArmorProfile": {"type": "Unconfined"}}},
]
OF_CONTAINER: list[Mapping[str, Any]] = [
    {"securityContext": {"capabilities": {"drop": ["ALL"]}}},
    {"securityContext": {"allowPrivilegeEscalation": False}},
    {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["KILL"]}}},
    {"ports": [{"containerPort": 80, "hostPort": 80}]},
    {"livenessProbe": {"httpGet": {"host": "10.0.0.1"}}},
    {"lifecycle": {"preStop": {"tcpSocket": {"host": "10.0.0.1"}}}},
    *(
        {"securityContext": {**GOOD["containers"][0]["securityContext"], **more}}
        for more in (
            {"privileged": True},
            {"runAsNonRoot": False},
            {"runAsUser": 0},
            {"procMount": "Unmasked"},
            {"seccompProfile": {"type": "Unconfined"}},
            {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}},
        )
    ),
]


def _pod(spec: Mapping[str, Any]) -> Pod:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
    return Pod(Object(body, ""), {}, {}, spec)


def test_the_checker_takes_a_good_pod() -> None:
    assert not breaches(_pod(GOOD))


@pytest.mark.parametrize("more", OF_POD, ids=str)
def test_the_checker_refuses_a_bad_pod(more: Mapping[str, Any]) -> None:
    assert breaches(_pod({**GOOD, **more}))


@pytest.mark.parametrize("more", OF_CONTAINER, ids=str)
@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_the_checker_refuses_a_bad_container(kind: str, more: Mapping[str, Any]) -> None:
    good = GOOD["containers"][0]
    assert breaches(_pod({**GOOD, kind: [{**good, **more}]}))


@every_overlay
def test_the_platform_may_pick_the_users(name: str) -> None:
    """As OpenShift does, which admits no pod that picks its own."""
    for pod in pods(render(overlay(name, fixedUsers=False), apis=EVERY_API)):
        context = pod.spec["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys(), str(pod)
        assert context["runAsNonRoot"] is True


def test_a_claim_of_one_node_is_filled_where_the_engine_waits() -> None:
    """Elsewhere neither could go on: the volume is at one node, and the engine's is tainted."""
    objects = render(overlay("one-h100"), apis=EVERY_API)
    (engine,), (job,) = pods(objects, "engine"), pods(objects, "weights")
    (term,) = job.spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert engine.has(term["labelSelector"]["matchLabels"])
    assert job.spec["tolerations"] == engine.spec["tolerations"]
    many = overlay("one-h100", weights={"accessModes": ["ReadWriteMany"]})
    (job,) = pods(render(many, apis=EVERY_API), "weights")
    assert "affinity" not in job.spec and "tolerations" not in job.spec
