"""What a worker's configuration says about Kubernetes: where the API is, and what may run there."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.runtime.process.settings import Settings

GRACE_SECONDS = 30.0
"""Between TERM and KILL, unless a member is stopped with less."""
NOBODY = 65_534


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """The configuration of the engine. Durations are seconds.

    Attributes:
        kubeconfig: a kubeconfig file; None: the service account of the worker's own pod.
        context: of the kubeconfig; None: its current context.
        namespace: of Jobs without one; None: that of the pod or of the context.
        namespaces: the only ones that Jobs may use besides `namespace`.
        service_accounts: the only ones that programs may name.
        owner: the object that owns the Jobs of the worker's own namespace, as `apps/v1/Deployment/NAME`: they are
            removed with it. None: no owner.
        helper_image: an image with `/bin/sh`, for results that are larger than a termination message.
        image_pull_timeout: how long an image that cannot be pulled is retried before the execution has failed.
        job_ttl: how long a finished Job is kept that no worker removes.
        run_as_user: user id of a program whose declaration names none.
    """

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    owner: str | None = None
    helper_image: str | None = None
    image_pull_timeout: float = 300.0
    job_ttl: float = 86_400.0
    run_as_user: int = NOBODY

    def all_namespaces(self, default: str) -> tuple[str, ...]:
        """The namespaces that Jobs may use, the default one first."""
        return tuple(dict.fromkeys((default, *self.namespaces)))


def kubernetes_settings(settings: Settings) -> KubernetesSettings:
    """The part of a process's settings that concerns Kubernetes."""
    return KubernetesSettings(
        kubeconfig=settings.kubernetes_kubeconfig,
        context=settings.kubernetes_context,
        namespace=settings.kubernetes_namespace,
        namespaces=settings.executor_namespaces,
        service_accounts=settings.kubernetes_service_accounts,
        owner=settings.kubernetes_owner,
        helper_image=settings.kubernetes_helper_image,
        image_pull_timeout=settings.kubernetes_image_pull_timeout,
        job_ttl=settings.kubernetes_job_ttl,
    )
