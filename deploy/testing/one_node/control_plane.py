"""The commands of etcd and the control plane, which listen on loopback of the namespace and the node's address."""

from __future__ import annotations

from one_node.layout import Layout
from one_node.processes import Process

ETCD = "http://127.0.0.1:2379"


def control_plane(cluster: Layout) -> list[Process]:
    """Its processes, in the order of their start."""
    controllers, scheduler = _controllers(cluster), _scheduler(cluster)
    return [_etcd(cluster), _api_server(cluster), controllers, scheduler]


def _etcd(cluster: Layout) -> Process:
    peers = "http://127.0.0.1:2380"
    command = [
        cluster.program("etcd"),
        f"--data-dir={cluster.folder}/etcd",
        *(f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}"),
        *(f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}"),
        f"--initial-cluster=default={peers}",
        # A test's cluster is lost with its machine anyway, and the disk is shared with Kafka.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    return Process(cluster, "etcd", command)


def _api_server(cluster: Layout) -> Process:
    pki = cluster.folder / "pki"
    command = [
        cluster.program("kube-apiserver"),
        *(f"--bind-address={cluster.node}", "--secure-port=6443", f"--advertise-address={cluster.node}"),
        f"--etcd-servers={ETCD}",
        f"--service-cluster-ip-range={cluster.services}",
        *(f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key"),
        f"--client-ca-file={pki}/ca.crt",
        *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-signing-key-file={pki}/accounts.key",
        f"--service-account-key-file={pki}/accounts.pub",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-to-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-to-kubelet.key",
        # Without it logs and exec look the node's name up.
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
    ]
    return Process(cluster, "kube-apiserver", command)


def _controllers(cluster: Layout) -> Process:
    pki = cluster.folder / "pki"
    command = [
        cluster.program("kube-controller-manager"),
        f"--kubeconfig={cluster.folder}/controller-manager.kubeconfig",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki}/accounts.key",
        f"--root-ca-file={pki}/ca.crt",
        *(f"--cluster-signing-cert-file={pki}/ca.crt", f"--cluster-signing-key-file={pki}/ca.key"),
    ]
    return Process(cluster, "kube-controller-manager", command)


def _scheduler(cluster: Layout) -> Process:
    command = [
        cluster.program("kube-scheduler"),
        f"--kubeconfig={cluster.folder}/scheduler.kubeconfig",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    ]
    return Process(cluster, "kube-scheduler", command)
