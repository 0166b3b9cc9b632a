"""`python -m checks` (with deploy/testing on the path): start a cluster, run every check in order, take it down.

A check that fails does not stop the next ones. The figures are printed, and written to cluster-test.json in the
folder of caches.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from checks import disturbances, engine, installation, job_errors, jobs, upgrades
from checks.product_image import previous_archive, product_archive
from checks.release import PREVIOUS_TAG, TESTED_TAGS, CheckFailedError, Release
from checks.values_matrix import values_matrix
from one_node.commands import inside, run
from one_node.images import import_image
from one_node.layout import ClusterError, Layout, layout
from one_node.lifecycle import down, up
from one_node.node import containerd_socket

Figures = dict[str, object]
Check = Callable[[Release], Figures]
CHECKS: dict[str, Check] = {
    "install": installation.install,
    "helm-test": installation.helm_test,
    "request": installation.request_with_key,
    "logs-exec": installation.logs_and_exec,
    "twenty-thousand": installation.twenty_thousand,
    "scale": disturbances.scale_by_draining,
    "upgrade": upgrades.rolling_upgrade,
    "rollback": upgrades.rollback,
    "jobs": jobs.members_as_jobs,
    "jobs-cancelled": jobs.cancelled_jobs,
    "job-errors": job_errors.job_errors,
    "engine": engine.contract_of_engines,
    "failed-upgrade": upgrades.failed_upgrade,
    "kills": disturbances.kill_every_pod,
    "drain": disturbances.drain_node,
    "values": values_matrix,
    "uninstall": installation.uninstall,
}
IMAGE = "localhost/anabranch"


def main() -> int:
    """Return the exit code: 1 if a check failed, 4 if this machine cannot run a cluster."""
    arguments = _arguments()
    cluster = layout()
    began = time.monotonic()
    try:
        if not arguments.running:
            down(cluster)
            up(cluster)
        names = arguments.only or list(CHECKS)
        import_product(cluster, arguments.image or product_archive(cluster.servers), *TESTED_TAGS)
        previous = previous_archive(cluster.servers) if "upgrade" in names else None
        if previous is not None:
            import_product(cluster, previous, PREVIOUS_TAG)
        print(f"cluster ready after {time.monotonic() - began:.0f} s", flush=True)
        results = run_checks(Release(cluster, has_previous=previous is not None), names)
    except ClusterError as error:
        print(f"checks: {error}", file=sys.stderr)
        return 4
    finally:
        if not arguments.keep:
            down(cluster)
    seconds = round(time.monotonic() - began)
    machine = {"machine": platform.machine(), "kernel": platform.release(), "processors": os.cpu_count()}
    path = cluster.servers / "testing" / "cluster-test.json"
    path.write_text(json.dumps({**machine, "seconds": seconds, "checks": results}, indent=2))
    failed = [name for name, figures in results.items() if "failed" in figures]
    print(f"{len(results) - len(failed)} of {len(results)} checks passed in {seconds} s")
    return 1 if failed else 0


def run_checks(release: Release, names: list[str]) -> dict[str, Figures]:
    """Run the checks of these names, print each result, and return all figures."""
    results: dict[str, Figures] = {}
    for name in names:
        began = time.monotonic()
        print(f"{name} …", end=" ", flush=True)
        try:
            figures = CHECKS[name](release)
        except (CheckFailedError, ClusterError) as failure:
            figures = {"failed": str(failure)}
        except Exception:  # noqa: BLE001
            # A fault of the check itself, such as an answer of another shape: the others go on.
            figures = {"failed": traceback.format_exc()}
        seconds = time.monotonic() - began
        results[name] = {"check_seconds": round(seconds, 1), **figures}
        print(f"{'FAILED' if 'failed' in figures else 'ok'} {seconds:.0f} s {json.dumps(figures)}", flush=True)
    return results


def import_product(cluster: Layout, archive: Path, *tags: str) -> None:
    """Import an image of the product under these tags."""
    printed = import_image(cluster, archive)
    name = next(word for word in printed.split() if "/" in word)
    ctr = inside(cluster, "ctr", "--address", containerd_socket(cluster), "--namespace", "k8s.io")
    for tag in tags:
        run(*ctr, "images", "tag", "--force", name, f"{IMAGE}:{tag}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m checks", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[[], *CHECKS], help="names of checks; default: all, in order")
    parser.add_argument("--running", action="store_true", help="use the cluster that runs")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--image", type=Path, help="an archive of the product's image, in place of building it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
