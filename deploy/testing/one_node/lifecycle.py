"""Starts and stops a cluster. Both are idempotent: `up` starts what does not run, `down` stops what runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from one_node import control_plane, node
from one_node.certificates import create_certificates
from one_node.commands import await_until, inside, run, succeeds
from one_node.datastores import datastores, datastores_answer, fetch_datastores
from one_node.dns import install_dns
from one_node.images import import_own_images
from one_node.layout import ClusterError, Layout
from one_node.network import create_network, delete_network
from one_node.processes import Process
from one_node.programs import build_programs, require_machine

SECONDS = 90
"""How long each part may take to become ready."""


def up(cluster: Layout) -> None:
    """Build, start and await everything. Raises ClusterError with the end of a log if a part does not start."""
    require_machine()
    build_programs(cluster)
    fetch_datastores(cluster)
    cluster.folder.mkdir(parents=True, exist_ok=True)
    cluster.runtime.mkdir(parents=True, exist_ok=True)
    create_certificates(cluster)
    create_network(cluster)
    stores = datastores(cluster)
    stores.start()
    runtime = node.containerd(cluster)
    runtime.start()
    etcd, api_server, *others = control_plane.control_plane(cluster)
    etcd.start()
    api_server.start()
    _await(
        runtime,
        "containerd responds",
        lambda: succeeds(*inside(cluster, "ctr", "-a", _socket(cluster), "version")),
    )
    import_own_images(cluster)
    _await(api_server, "the API server is ready", lambda: succeeds(*kubectl(cluster, "get", "--raw", "/readyz")))
    proxy, agent = node.kube_proxy(cluster), node.kubelet(cluster)
    for process in (*others, proxy, agent):
        process.start()
    _await(agent, "the node is ready", lambda: node_ready(cluster))
    install_dns(cluster)
    _await(stores, "Kafka and Valkey respond", lambda: datastores_answer(cluster))


def down(cluster: Layout) -> None:
    """Stop all pods and processes, and delete the cluster's files and network."""
    processes = {process.name: process for process in processes_of(cluster)}
    if processes["kube-apiserver"].running() and processes["kubelet"].running():
        # containerd's shims outlive it: pods have to go first.
        kept = ("--ignore-not-found", "--wait=false", "--timeout=30s")
        succeeds(*kubectl(cluster, "delete", "namespace", "--all", *kept))
    for name in ("kubelet", "kube-scheduler", "kube-controller-manager", "kube-proxy", "kube-apiserver", "etcd"):
        processes[name].stop()
    processes["datastores"].stop()
    if processes["containerd"].running():
        _remove_pods(cluster)
    processes["containerd"].stop()
    _unmount_below(cluster.folder, cluster.runtime)
    delete_network(cluster)
    for folder in (cluster.folder, cluster.runtime):
        shutil.rmtree(folder, ignore_errors=True)


def status(cluster: Layout) -> list[str]:
    """One line for each process, and the node's."""
    if not cluster.folder.exists():
        return [f"{cluster.name}: down"]
    lines = [f"{each.name}: {'running' if each.running() else 'not running'}" for each in processes_of(cluster)]
    return [*lines, f"node: {'ready' if node_ready(cluster) else 'not ready'}"]


def processes_of(cluster: Layout) -> list[Process]:
    """All processes of the cluster. Its folder has to exist: their configurations are written into it."""
    cluster.folder.mkdir(parents=True, exist_ok=True)
    nodes = [node.containerd(cluster), node.kubelet(cluster), node.kube_proxy(cluster)]
    return [datastores(cluster), *control_plane.control_plane(cluster), *nodes]


def kubectl(cluster: Layout, *arguments: str) -> list[str]:
    """A kubectl command as the administrator."""
    return [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}", *arguments]


def node_ready(cluster: Layout) -> bool:
    """True if the node reports that it is ready."""
    template = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
    try:
        return run(*kubectl(cluster, "get", "nodes", "-o", template), timeout=30) == "True"
    except ClusterError:
        return False


def _await(process: Process, what: str, ready: Callable[[], bool]) -> None:
    def checked() -> bool:
        if not process.running():
            raise ClusterError(f"{process.name} ended at its start; its log: {process.log_tail()}")
        return ready()

    try:
        await_until(what, checked, SECONDS)
    except ClusterError as error:
        raise ClusterError(
            f"{error}; the log of {process.name}, {process.log}, ends: {process.log_tail()}"
        ) from error


def _socket(cluster: Layout) -> str:
    return node.containerd_socket(cluster)


def _remove_pods(cluster: Layout) -> None:
    """Kill and delete the containers and their shims, by containerd's own list."""
    ctr = inside(cluster, "ctr", "--address", _socket(cluster), "--namespace", "k8s.io")
    for name in run(*ctr, "tasks", "list", "--quiet").split():
        await_until(f"container {name} is deleted", partial(_task_deleted, ctr, name), 60)
    namespaces = set[str]()
    for name in run(*ctr, "containers", "list", "--quiet").split():
        spec = json.loads(run(*ctr, "containers", "info", name))["Spec"]["linux"]
        paths = [Path(each.get("path", "")) for each in spec["namespaces"] if each["type"] == "network"]
        namespaces |= {path.name for path in paths if path.name.startswith("cni-")}
        succeeds(*ctr, "containers", "delete", name)
    for name in namespaces:
        # The pods' own; containerd names them.
        succeeds("ip", "netns", "delete", name)


def _task_deleted(ctr: list[str], name: str) -> bool:
    # A deletion may fail and take effect all the same, so the list says whether it did.
    succeeds(*ctr, "tasks", "kill", "--signal", "SIGKILL", "--all", name)
    succeeds(*ctr, "tasks", "delete", "--force", name)
    return name not in run(*ctr, "tasks", "list", "--quiet").split()


def _unmount_below(*folders: Path) -> None:
    """Unmount what pods had mounted below these folders, the innermost first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1].replace("\\040", " ") for line in lines]
    prefixes = tuple(f"{folder}/" for folder in folders)
    for point in sorted((each for each in points if each.startswith(prefixes)), key=len, reverse=True):
        succeeds("umount", "--lazy", point)
