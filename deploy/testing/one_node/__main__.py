"""`python -m one_node up | down | status | import ARCHIVE` (with deploy/testing on the path).

The cluster's number is $ANABRANCH_TEST_CLUSTER, 0 by default.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from one_node.images import import_image
from one_node.layout import ClusterError, layout
from one_node.lifecycle import down, status, up


def main() -> int:
    """Return the exit code: 4 if this machine cannot run a cluster, or a part of it failed."""
    parser = argparse.ArgumentParser(prog="python -m one_node", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "import"])
    parser.add_argument(
        "archive", nargs="?", type=Path, help="of `import`: an image as docker-archive or OCI archive"
    )
    arguments = parser.parse_args()
    try:
        cluster = layout()
        if arguments.command == "up":
            up(cluster)
            print(f"export KUBECONFIG={cluster.kubeconfig}")
            print(f"# Kafka: {cluster.brokers}   Valkey: {cluster.redis_url}")
        elif arguments.command == "down":
            down(cluster)
        elif arguments.command == "status":
            print("\n".join(status(cluster)))
        elif arguments.archive is None:
            parser.error("import needs the path of an archive")
        else:
            print(import_image(cluster, arguments.archive), end="")
    except ClusterError as error:
        print(f"one_node: {error}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
