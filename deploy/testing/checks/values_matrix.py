"""Every file of the chart's ci folder against the API server: applied as a dry run in a restricted namespace."""

from __future__ import annotations

import subprocess
from typing import Any

import yaml

from checks.release import CHART, Release, expect


def values_matrix(release: Release) -> dict[str, object]:
    """The API server accepts what the chart renders from each file, and no pod violates restricted pod security.

    Objects of kinds that this cluster does not have, such as KEDA's, are counted and left out.
    """
    known = _known_kinds(release)
    accepted, unknown = 0, set[str]()
    problems = []
    for values in sorted((CHART / "ci").glob("*.yaml")):
        rendered = release.helm("template", "matrix", CHART, "--values", values, "--no-hooks")
        documents = [each for each in yaml.safe_load_all(rendered) if each]
        unknown |= {each["kind"] for each in documents if each["kind"] not in known}
        kept = [each for each in documents if each["kind"] in known and _here(each, release)]
        accepted += len(kept)
        problem = _applied(release, yaml.safe_dump_all(kept))
        if problem:
            problems.append(f"{values.name}: {problem}")
    expect(not problems, "\n".join(problems))
    return {"objects": accepted, "kinds_without_definition": sorted(unknown)}


def _here(document: dict[str, Any], release: Release) -> bool:
    """Objects for namespaces that do not exist here cannot be tried."""
    return bool(document["metadata"].get("namespace", release.namespace) == release.namespace)


def _known_kinds(release: Release) -> set[str]:
    listed = release.kubectl("api-resources", "--no-headers")
    return {line.split()[-1] for line in listed.splitlines()}


def _applied(release: Release, manifest: str) -> str:
    """What the API server refuses or warns about."""
    command = [
        str(release.cluster.kubectl),
        f"--kubeconfig={release.cluster.kubeconfig}",
        *("--namespace", release.namespace, "apply", "--dry-run=server", "-f", "-"),
    ]
    done = subprocess.run(command, input=manifest, capture_output=True, text=True, timeout=120, check=False)
    return done.stderr.strip()[:3000]
