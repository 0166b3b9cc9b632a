"""The cluster's network namespace: a bridge for pods, and a link to the host, without a route to others."""

from __future__ import annotations

from one_node.commands import inside, run, succeeds
from one_node.layout import Layout

BRIDGE = "pods"


def create_network(cluster: Layout) -> None:
    """Create what is missing of the namespace, the bridge and the link."""
    if not cluster.namespace_file.exists():
        run("ip", "netns", "add", cluster.name)
    if not succeeds("ip", "link", "show", _host_end(cluster)):
        run("ip", "link", "add", _host_end(cluster), "type", "veth", "peer", "name", "host", "netns", cluster.name)
        run("ip", "address", "add", f"{cluster.link_host}/30", "dev", _host_end(cluster))
        run("ip", "link", "set", _host_end(cluster), "up")
        _inside(cluster, "ip", "address", "add", f"{cluster.link_cluster}/30", "dev", "host")
        _inside(cluster, "ip", "link", "set", "host", "up")
        _inside(cluster, "ip", "link", "set", "lo", "up")
    if not succeeds(*inside(cluster, "ip", "link", "show", BRIDGE)):
        _inside(cluster, "ip", "link", "add", BRIDGE, "type", "bridge")
        _inside(cluster, "ip", "address", "add", f"{cluster.node}/24", "dev", BRIDGE)
        _inside(cluster, "ip", "link", "set", BRIDGE, "up")
        # The namespace's own settings: kube-proxy's rules have to see packets between two pods of the bridge.
        for setting in ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"):
            _inside(cluster, "sysctl", "--quiet", "--write", f"{setting}=1")
        # The API server asks for the machine's default route.
        _inside(cluster, "ip", "route", "add", "default", "via", cluster.link_host)
    run("ip", "route", "replace", cluster.network, "via", cluster.link_cluster)


def delete_network(cluster: Layout) -> None:
    """Delete the namespace, and with it the bridge, the links and the rules of kube-proxy."""
    if succeeds("ip", "link", "show", _host_end(cluster)):
        run("ip", "link", "delete", _host_end(cluster))
    if cluster.namespace_file.exists():
        run("ip", "netns", "delete", cluster.name)


def _host_end(cluster: Layout) -> str:
    return cluster.name


def _inside(cluster: Layout, *command: str) -> None:
    run(*inside(cluster, *command))
