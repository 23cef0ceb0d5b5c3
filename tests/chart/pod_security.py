"""The restricted Pod Security Standard, all of it: what it has against a pod.

https://kubernetes.io/docs/concepts/security/pod-security-standards/, for Linux; each function is a
row of its tables, the first ones of the baseline. What the API server itself would check in a
namespace with `pod-security.kubernetes.io/enforce: restricted`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.chart.pods import Container, Pod

_VOLUMES: Final = frozenset(
    "configMap csi downwardAPI emptyDir ephemeral image persistentVolumeClaim projected"
    " secret".split()
)
_SYSCTLS: Final = frozenset(
    "kernel.shm_rmid_forced net.ipv4.ip_local_port_range net.ipv4.ip_unprivileged_port_start"
    " net.ipv4.tcp_syncookies net.ipv4.ping_group_range net.ipv4.ip_local_reserved_ports"
    " net.ipv4.tcp_keepalive_time net.ipv4.tcp_fin_timeout net.ipv4.tcp_keepalive_intvl"
    " net.ipv4.tcp_keepalive_probes net.ipv4.tcp_rmem net.ipv4.tcp_wmem".split()
)
_SELINUX: Final = frozenset(["", "container_t", "container_init_t", "container_kvm_t"])
_PROFILES: Final = ("RuntimeDefault", "Localhost")


def breaches(pod: Pod) -> list[str]:
    """A line for each; none for a pod that is admitted."""
    found = list(_of_pod(pod))
    for container in pod.containers:
        found += [f"{container}: {line}" for line in _of_container(pod, container)]
    return found


def _of_pod(pod: Pod) -> Iterator[str]:
    security = _security(pod.spec)
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(name):
            yield f"{pod}: {name}"
    for name, volume in pod.volumes.items():
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f"{pod}: volume {name} is a {kind}"
    for sysctl in security.get("sysctls", ()):
        if sysctl["name"] not in _SYSCTLS:
            yield f"{pod}: sysctl {sysctl['name']}"
    for name in pod.annotations:
        if "apparmor.security.beta.kubernetes.io" in name and not pod.annotations[name].startswith(
            ("runtime/default", "localhost/")
        ):
            yield f"{pod}: annotation {name}"
    if security.get("runAsUser") == 0:
        yield f"{pod}: runAsUser is 0"
    yield from (f"{pod}: {line}" for line in _of_either(security))


def _of_container(pod: Pod, container: Container) -> Iterator[str]:
    security = _security(container.body)
    whole = {**_security(pod.spec), **security}
    capabilities = security.get("capabilities") or {}
    if security.get("privileged"):
        yield "privileged"
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if whole.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if security.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if "ALL" not in capabilities.get("drop", ()):
        yield "capabilities: ALL is not dropped"
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if (whole.get("seccompProfile") or {}).get("type") not in _PROFILES:
        yield "seccompProfile is neither RuntimeDefault nor Localhost"
    if security.get("procMount", "Default") != "Default":
        yield "procMount"
    if any(port.get("hostPort") for port in container.body.get("ports", ())):
        yield "hostPort"
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if _names_host(container.body.get(name) or {}):
            yield f"{name} names a host"
    for name, hook in (container.body.get("lifecycle") or {}).items():
        if _names_host(hook):
            yield f"{name} names a host"
    yield from _of_either(security)


def _of_either(security: Mapping[str, Any]) -> Iterator[str]:
    """What may be said of a pod and of a container, and has to be right in both."""
    linux = security.get("seLinuxOptions") or {}
    if (security.get("windowsOptions") or {}).get("hostProcess"):
        yield "hostProcess"
    if linux.get("type", "") not in _SELINUX or linux.get("user") or linux.get("role"):
        yield "seLinuxOptions"
    if (security.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in _PROFILES:
        yield "appArmorProfile"
    if (security.get("seccompProfile") or {}).get("type", "RuntimeDefault") not in _PROFILES:
        yield "seccompProfile"
    if security.get("runAsNonRoot", True) is not True:
        yield "runAsNonRoot is false"


def _names_host(handler: Mapping[str, Any]) -> bool:
    return any((handler.get(kind) or {}).get("host") for kind in ("httpGet", "tcpSocket"))


def _security(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return body.get("securityContext") or {}
