"""The engine `kubernetes`: programs as Jobs of a cluster."""

from __future__ import annotations

from anabranch.runtime.process.extras import needs_extra
from anabranch.runtime.process.settings import Settings
from anabranch_taskgroup.worker.executors.programs.engine import ProgramEngine


def open_engine(settings: Settings) -> ProgramEngine:
    """Open the engine for a process's settings. It connects at its first operation.

    Raises:
        Misconfigured: the extra `executors` is not installed, or there is no access to a cluster.
    """
    with needs_extra("executors", "the executor kubernetes"):
        from anabranch_taskgroup.worker.executors.programs.kubernetes.api import Api
        from anabranch_taskgroup.worker.executors.programs.kubernetes.engine import KubernetesEngine
    from anabranch_taskgroup.worker.executors.programs.kubernetes.config import kubernetes_settings
    from anabranch_taskgroup.worker.executors.programs.kubernetes.credentials import load_access

    chosen = kubernetes_settings(settings)
    return KubernetesEngine(Api(load_access(chosen)), chosen)
