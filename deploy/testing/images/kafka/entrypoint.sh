#!/bin/bash
# KAFKA_SOME_NAME=value becomes some.name=value, as in the image of Apache Kafka; formats an empty log folder.
set -euo pipefail
properties=/tmp/server.properties
env | sed -n 's/^KAFKA_\([A-Z_]*\)=/\1=/p' | while IFS='=' read -r name value; do
  name="${name,,}"
  printf '%s=%s\n' "${name//_/.}" "$value"
done >"$properties"
kafka() { java -XX:+UseSerialGC -cp '/opt/kafka/libs/*' -Dlog4j2.configurationFile=/etc/kafka/log4j2.properties "$@"; }
kafka -Xmx128m kafka.tools.StorageTool format --ignore-formatted -t YW5hYnJhbmNoLXRlc3RzIQ -c "$properties"
exec java -Xms256m -Xmx1g -cp '/opt/kafka/libs/*' -Dlog4j2.configurationFile=/etc/kafka/log4j2.properties \
  kafka.Kafka "$properties"
