"""`python -m servers` (with tests/support on the path): a Kafka and a Redis in the foreground, for local work.

Prints the two variables that the commands and the tests read; stops both servers on Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

from servers.kafka_node import kafka_node
from servers.process import ServerUnavailableError
from servers.redis_node import redis_node


def main() -> int:
    arguments = _arguments()
    for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked, _leave)
    with tempfile.TemporaryDirectory(prefix="anabranch-servers-") as folder:
        try:
            broker = kafka_node(Path(folder) / "kafka", port=arguments.kafka_port)
            store = redis_node(Path(folder) / "redis", port=arguments.redis_port)
        except ServerUnavailableError as missing:
            print(f"servers: {missing}", file=sys.stderr)
            return 4
        try:
            store.start()
            broker.start()
            print(f"export ANABRANCH_BROKERS={broker.address}")
            print(f"export ANABRANCH_REDIS_URL={store.address}", flush=True)
            print("Both run until Ctrl-C.", file=sys.stderr, flush=True)
            signal.pause()
        finally:
            broker.stop()
            store.stop()
    return 0


def _leave(signal_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m servers", description=__doc__)
    parser.add_argument("--kafka-port", type=int, default=None, help="default: a free one")
    parser.add_argument("--redis-port", type=int, default=None, help="default: a free one")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
