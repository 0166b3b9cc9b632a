"""Builds the cluster's programs from Go modules, once: about 15 minutes of processor time, then cached."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from one_node.commands import run
from one_node.layout import ClusterError, Layout

KUBERNETES = "v1.36.3"
MODULES = Path(__file__).resolve().parents[1] / "modules"
PACKAGES = {
    "pause": "./pause",
    "etcd": "go.etcd.io/etcd/server/v3",
    **{
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    },
    "coredns": "./coredns",
}
DEBIAN = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "sysctl": "procps",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""Commands of the machine, and Debian's package of each."""
_BUILD_SECONDS = 5400


def require_machine() -> None:
    """Raise ClusterError, with what to do, if this machine cannot run the cluster."""
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        raise ClusterError("a cluster needs root on Linux: it creates network namespaces and containers")
    missing = sorted(package for command, package in DEBIAN.items() if shutil.which(command) is None)
    if missing:
        raise ClusterError(f"missing: {' '.join(missing)} (names of Debian's packages)")


def build_programs(cluster: Layout) -> None:
    """Build the programs that are missing or whose sources have changed.

    Raises ClusterError if there is no Go, or a build fails.
    """
    cluster.programs.mkdir(parents=True, exist_ok=True)
    for name, package in PACKAGES.items():
        stamp = cluster.programs / f"{name}.stamp"
        if stamp.exists() and stamp.read_text() == _sources():
            continue
        if shutil.which("go") is None:
            raise ClusterError("go is missing, which builds Kubernetes: install Go 1.26 or newer")
        print(f"building {name}", flush=True)
        _build(package, cluster.programs / name)
        stamp.write_text(_sources())


def _build(package: str, program: Path) -> None:
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    version = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    variables = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in version.items())
    run(
        *("nice", "-n", "19", "go", "build", "-trimpath", "-ldflags", f"-s -w {variables}"),
        *("-o", program, package),
        folder=MODULES,
        environment={**os.environ, "CGO_ENABLED": "0"},
        timeout=_BUILD_SECONDS,
    )


def _sources() -> str:
    files = sorted(path for path in MODULES.rglob("*") if path.suffix in {".go", ".mod", ".sum"})
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
