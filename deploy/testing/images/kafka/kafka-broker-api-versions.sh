#!/usr/bin/env python3
"""`--bootstrap-server HOST:PORT`: asks a broker for its API versions, as the command of that name does, without a JVM.

Its name is the one that the health check of docker-compose.yml calls.
"""

import socket
import struct
import sys

host, port = sys.argv[2].rsplit(":", 1)
# Request 18 (ApiVersions) in version 0, with correlation id 1 and no client id.
request = struct.pack(">hhih", 18, 0, 1, -1)
with socket.create_connection((host, int(port)), timeout=5) as broker:
    broker.sendall(struct.pack(">i", len(request)) + request)
    answer = broker.recv(10)
_, correlation, error = struct.unpack(">iih", answer)
sys.exit(error or correlation != 1)
