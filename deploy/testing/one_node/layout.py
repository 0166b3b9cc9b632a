"""Where a cluster is: its addresses, which its number determines, and its folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
MAX_NUMBER = 50


class ClusterError(Exception):
    """Raised if the cluster cannot be run here; the message says what to do."""


@dataclass(frozen=True)
class Layout:
    """The addresses and paths of the cluster `number`; clusters of different numbers do not touch each other.

    All addresses are in 10.(200 + number).0.0/16: the bridge of the pods, whose own address is the node's, the
    Services, and the two ends of the link to the host.
    """

    number: int
    servers: Path
    """The folder of caches: `.servers` of the repository, or $ANABRANCH_TEST_CACHE."""

    @property
    def name(self) -> str:
        return f"anabranch-{self.number}"

    @property
    def programs(self) -> Path:
        """The folder of the programs, shared by all clusters."""
        return self.servers / "testing" / "bin"

    @property
    def kubectl(self) -> Path:
        return REPOSITORY / ".servers" / "tools" / "kubectl"

    @property
    def helm(self) -> Path:
        return REPOSITORY / ".servers" / "tools" / "helm"

    @property
    def folder(self) -> Path:
        """Everything that `down` deletes."""
        return self.servers / "testing" / f"cluster-{self.number}"

    @property
    def runtime(self) -> Path:
        """Sockets: their paths may have at most 107 characters, so they are not in `folder`."""
        return Path("/run") / self.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's; helm and kubectl of this machine use it."""
        return self.folder / "admin.kubeconfig"

    @property
    def namespace_file(self) -> Path:
        """The network namespace of all processes and pods."""
        return Path("/run/netns") / self.name

    @property
    def network(self) -> str:
        return f"{self._prefix}.0.0/16"

    @property
    def pods(self) -> str:
        return f"{self._prefix}.0.0/24"

    @property
    def services(self) -> str:
        return f"{self._prefix}.128.0/20"

    @property
    def node(self) -> str:
        """The node's address: kubelet, API server, Kafka and Valkey listen on it."""
        return f"{self._prefix}.0.1"

    @property
    def api_service(self) -> str:
        """The first address of the Services, which Kubernetes gives to the API server."""
        return f"{self._prefix}.128.1"

    @property
    def dns(self) -> str:
        return f"{self._prefix}.128.10"

    @property
    def link_host(self) -> str:
        return f"{self._prefix}.255.1"

    @property
    def link_cluster(self) -> str:
        return f"{self._prefix}.255.2"

    @property
    def api(self) -> str:
        return f"https://{self.node}:6443"

    @property
    def brokers(self) -> str:
        return f"{self.node}:9092"

    @property
    def redis_url(self) -> str:
        return f"redis://{self.node}:6379/0"

    @property
    def _prefix(self) -> str:
        return f"10.{200 + self.number}"

    def program(self, name: str) -> str:
        return str(self.programs / name)


def layout(number: int | None = None) -> Layout:
    """The cluster `number`; None: the one of $ANABRANCH_TEST_CLUSTER, else 0."""
    if number is None:
        number = int(os.environ.get("ANABRANCH_TEST_CLUSTER", "0"))
    if not 0 <= number <= MAX_NUMBER:
        raise ClusterError(f"the number of a cluster is between 0 and {MAX_NUMBER}; it is {number}")
    named = os.environ.get("ANABRANCH_TEST_CACHE")
    return Layout(number, Path(named).resolve() if named else REPOSITORY / ".servers")
