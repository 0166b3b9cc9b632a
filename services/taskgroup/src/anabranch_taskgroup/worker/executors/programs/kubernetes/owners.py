"""The object that owns the Jobs of the worker's namespace.

It is a Deployment or the like, never the worker's pod: a Job outlives its worker, and an owner that is removed
takes its Jobs with it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from anabranch.core.errors import Misconfigured
from anabranch_taskgroup.worker.executors.programs.kubernetes.api import Api
from anabranch_taskgroup.worker.executors.programs.kubernetes.api_errors import ApiError
from anabranch_taskgroup.worker.executors.programs.kubernetes.manifest import Owner

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OwnerName:
    """An object by name: API version `apps/v1`, kind `Deployment`."""

    api_version: str
    kind: str
    name: str


def owner_name(text: str | None) -> OwnerName | None:
    """Read `apps/v1/Deployment/NAME` or `v1/ConfigMap/NAME`.

    Raises:
        Misconfigured: it is neither.
    """
    if not text:
        return None
    version, _, rest = text.rpartition("/")[0].rpartition("/")
    name = text.rpartition("/")[2]
    if not version or not rest or not name or version.count("/") > 1:
        raise Misconfigured("kubernetes_owner", f"{text!r} names no object", "Write it as apps/v1/Deployment/NAME")
    return OwnerName(version, rest, name)


async def find_owner(api: Api, wanted: OwnerName) -> Owner | None:
    """Look up the owner in the worker's namespace; None, with a warning, if Jobs have to do without.

    Raises:
        ApiError, ApiUnreachable: the API does not answer now.
    """
    try:
        found = await api.get(f"{wanted.kind.lower()}s", api.namespace, wanted.name, group=wanted.api_version)
    except ApiError as error:
        if error.is_transient:
            raise
        log.warning("executor kubernetes: Jobs without an owner outlive an uninstallation: %s", error)
        return None
    if found is None:
        log.warning(
            "executor kubernetes: Jobs without an owner outlive an uninstallation: no %s %r in namespace %r",
            wanted.kind,
            wanted.name,
            api.namespace,
        )
        return None
    reference = {
        "apiVersion": wanted.api_version,
        "kind": wanted.kind,
        "name": wanted.name,
        "uid": found["metadata"]["uid"],
    }
    return Owner(api.namespace, reference)
