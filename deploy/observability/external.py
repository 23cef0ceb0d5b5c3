"""Metrics of others that dashboards use, each with who exports it and why tests cannot see it.

A panel that needs one takes its reason for `needs`.
"""

from dataclasses import dataclass
from typing import Final

from deploy.observability.metric import Metric
from service.telemetry.contract import Kind, Label


@dataclass(frozen=True, slots=True)
class Exporter:
    """Who exports some metrics. `unseen` is why no test has them; empty where tests do."""

    name: str
    unseen: str
    metrics: tuple[Metric, ...]


def _gauges(labels: tuple[Label, ...], *names: str) -> tuple[Metric, ...]:
    return tuple(Metric(name, Kind.GAUGE, labels) for name in names)


_HPA = (Label("horizontalpodautoscaler", bound="autoscalers"),)
HPA_CURRENT, HPA_DESIRED, HPA_LEAST, HPA_MOST = _gauges(
    _HPA,
    "kube_horizontalpodautoscaler_status_current_replicas",
    "kube_horizontalpodautoscaler_status_desired_replicas",
    "kube_horizontalpodautoscaler_spec_min_replicas",
    "kube_horizontalpodautoscaler_spec_max_replicas",
)

# Of a GPU's own labels those that every release of the exporter has. Namespace and pod, of the
# exporter or of who uses the GPU, depend on how it is scraped: nothing here selects by them.
_GPU = (
    Label("Hostname", bound="nodes"),
    Label("gpu", bound="GPUs of a node"),
    Label("UUID", bound="GPUs"),
    Label("modelName", bound="kinds of GPU"),
)
GPU_USED, GPU_MEMORY, GPU_MEMORY_FREE, GPU_POWER, GPU_XID, GPU_TENSOR, GPU_HOT = _gauges(
    _GPU,
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "DCGM_FI_DEV_GPU_TEMP",
)

CPU = Metric("process_cpu_seconds_total", Kind.COUNTER)
MEMORY, STARTED, FILES_OPEN, FILES_MOST = _gauges(
    (),
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
)

KUBERNETES: Final = Exporter(
    "kube-state-metrics",
    "needs Kubernetes with kube-state-metrics and a HorizontalPodAutoscaler (KEDA makes one)",
    (HPA_CURRENT, HPA_DESIRED, HPA_LEAST, HPA_MOST),
)
DCGM: Final = Exporter(
    "dcgm-exporter",
    "needs an NVIDIA GPU with dcgm-exporter",
    (GPU_USED, GPU_MEMORY, GPU_MEMORY_FREE, GPU_POWER, GPU_XID, GPU_TENSOR, GPU_HOT),
)
PROCESS: Final = Exporter(
    "prometheus_client, in each gateway and engine",
    "",
    (CPU, MEMORY, STARTED, FILES_OPEN, FILES_MOST),
)
EXPORTERS: Final = (KUBERNETES, DCGM, PROCESS)
