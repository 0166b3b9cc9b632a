"""CoreDNS as a Deployment behind the Service kube-dns, as in other clusters."""

from __future__ import annotations

from one_node.commands import run
from one_node.images import COREDNS_IMAGE
from one_node.layout import Layout

COREFILE = """\
.:5353 {
    errors
    health :8080
    ready :8181
    kubernetes cluster.local in-addr.arpa {
        pods insecure
    }
    cache 5
}
"""
MANIFEST = """\
apiVersion: v1
kind: ServiceAccount
metadata: {name: coredns, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: system:coredns}
rules:
  - {apiGroups: [""], resources: [services, pods, namespaces], verbs: [list, watch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: system:coredns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:coredns}
subjects: [{kind: ServiceAccount, name: coredns, namespace: kube-system}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data:
  Corefile: |
COREFILE
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  replicas: 1
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      serviceAccountName: coredns
      priorityClassName: system-cluster-critical
      # It stays when a check drains the node.
      tolerations: [{operator: Exists}]
      dnsPolicy: Default
      containers:
        - name: coredns
          image: IMAGE
          imagePullPolicy: Never
          args: [-conf, /etc/coredns/Corefile]
          ports: [{name: dns, containerPort: 5353, protocol: UDP}, {name: dns-tcp, containerPort: 5353}]
          readinessProbe: {httpGet: {path: /ready, port: 8181}, periodSeconds: 1}
          volumeMounts: [{name: config, mountPath: /etc/coredns}]
      volumes: [{name: config, configMap: {name: coredns}}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: ADDRESS
  selector: {k8s-app: kube-dns}
  ports:
    - {name: dns, port: 53, protocol: UDP, targetPort: dns}
    - {name: dns-tcp, port: 53, protocol: TCP, targetPort: dns-tcp}
"""


def install_dns(cluster: Layout) -> None:
    """Apply CoreDNS and wait until it responds."""
    corefile = "".join(f"    {line}\n" for line in COREFILE.splitlines())
    manifest = (
        MANIFEST.replace("COREFILE\n", corefile).replace("IMAGE", COREDNS_IMAGE).replace("ADDRESS", cluster.dns)
    )
    kubectl = (cluster.kubectl, f"--kubeconfig={cluster.kubeconfig}")
    run(*kubectl, "apply", "--server-side", "-f", "-", given=manifest)
    run(*kubectl, "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=90s")
