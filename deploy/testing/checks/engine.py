"""The contract of engines that outlive their worker, by the tests of the repository on a real node."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from checks.release import Release, expect
from one_node.commands import run
from one_node.layout import REPOSITORY

TESTS = "tests/conformance/test_program_engines.py"
NAMESPACE = "contract"
JOB_IMAGE = "localhost/anabranch:before"


def contract_of_engines(release: Release) -> dict[str, object]:
    """The contract suite of engines, in a namespace with restricted pod security."""
    place = Release(release.cluster, namespace=NAMESPACE)
    place.create_namespace()
    environment = {
        **os.environ,
        "ANABRANCH_TEST_KUBECONFIG": str(namespace_kubeconfig(place)),
        "ANABRANCH_TEST_JOB_IMAGE": JOB_IMAGE,
    }
    tests = (sys.executable, "-m", "pytest", "-q", TESTS, "-k", "kubernetes-cluster")
    printed = run(*tests, environment=environment, folder=REPOSITORY, timeout=600)
    release.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    passed = re.search(r"(\d+) passed", printed)
    expect(passed, f"pytest ran no test: {printed[-2000:]}")
    return {"passed": int(passed[1]) if passed else 0}


def namespace_kubeconfig(release: Release, token: str | None = None) -> Path:
    """Write a kubeconfig for the release's namespace; with a token, or else as the administrator."""
    config = json.loads(release.cluster.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = release.namespace
    if token is not None:
        config["users"][0]["user"] = {"token": token}
    path = release.cluster.folder / f"{release.namespace}-{'token' if token else 'admin'}.kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path
