"""A real Kubernetes of one node for tests, in a network namespace of its own: etcd, the control plane, containerd,
the kubelet, kube-proxy and CoreDNS, and a Kafka and a Valkey beside them.

It needs root on Linux. It touches no process that it did not start: each has a pid file in the cluster's folder.
"""
