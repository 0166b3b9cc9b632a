"""The node: containerd with folders and a socket of its own, the kubelet, kube-proxy, and the pods' network."""

from __future__ import annotations

import json

from one_node.commands import write_changed
from one_node.layout import Layout
from one_node.network import BRIDGE
from one_node.processes import Process

NAME = "node"
PAUSE_IMAGE = "localhost/pause:1"
CNI_PLUGINS = "/usr/lib/cni"
"""Where Debian's containernetworking-plugins has them."""


def containerd_socket(cluster: Layout) -> str:
    return f"{cluster.runtime}/containerd.sock"


def containerd(cluster: Layout) -> Process:
    """The container runtime, whose configuration is written first."""
    path = cluster.folder / "containerd.toml"
    # cgroups are v1 or hybrid on some machines, and CAP_SYS_RESOURCE may be missing: no limit may be raised then.
    configuration = f"""version = 2
root = "{cluster.folder}/containerd"
state = "{cluster.runtime}/containerd"
[grpc]
  address = "{containerd_socket(cluster)}"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{cluster.folder}/registries"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{CNI_PLUGINS}"
  conf_dir = "{cluster.folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
  Root = "{cluster.runtime}/runc"
"""
    write_changed(path, configuration)
    _write_cni(cluster)
    return Process(cluster, "containerd", ["containerd", "--config", str(path), "--log-level", "warn"])


def _write_cni(cluster: Layout) -> None:
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isDefaultGateway": True,
        # A pod that calls itself through its Service.
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": cluster.pods}]],
            "dataDir": str(cluster.folder / "addresses"),
        },
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    document = {"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}
    write_changed(cluster.folder / "cni" / "pods.conflist", json.dumps(document, indent=2))


def kubelet(cluster: Layout) -> Process:
    """The kubelet, with the settings that a machine with cgroups v1 and without CAP_SYS_RESOURCE needs."""
    pki = cluster.folder / "pki"
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": cluster.node,
        "containerRuntimeEndpoint": f"unix://{containerd_socket(cluster)}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet-serving.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-serving.key"),
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "clusterDomain": "cluster.local",
        "clusterDNS": [cluster.dns],
        "resolvConf": "",
        "podLogsDir": str(cluster.folder / "pods"),
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "featureGates": {"KubeletInUserNamespace": True},
        "makeIPTablesUtilChains": False,
        "failSwapOn": False,
        # A developer's disk may be nearly full; images are imported, and could not be pulled again.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "maxPods": 200,
        "shutdownGracePeriod": "0s",
    }
    path = cluster.folder / "kubelet.json"
    write_changed(path, json.dumps(document, indent=2))
    command = [
        cluster.program("kubelet"),
        f"--config={path}",
        f"--kubeconfig={cluster.folder}/kubelet.kubeconfig",
        f"--root-dir={cluster.folder}/kubelet",
        f"--hostname-override={NAME}",
        f"--node-ip={cluster.node}",
    ]
    return Process(cluster, "kubelet", command)


def kube_proxy(cluster: Layout) -> Process:
    """kube-proxy with iptables, which writes its rules into the cluster's network namespace."""
    command = [
        cluster.program("kube-proxy"),
        f"--kubeconfig={cluster.folder}/kube-proxy.kubeconfig",
        f"--hostname-override={NAME}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={cluster.pods}",
        *("--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249"),
        # The kernel's own limits stay as they are.
        *("--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"),
        "--conntrack-tcp-timeout-close-wait=0",
    ]
    return Process(cluster, "kube-proxy", command)
