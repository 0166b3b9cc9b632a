#!/usr/bin/env bash
# Runs docker-compose.yml for real, with Docker Compose on Podman: starts it, kills a container of each service and
# replaces the image of each amid a fan-out, and takes it down without leftovers. Usage: compose_test.sh
set -euo pipefail
HERE="$(dirname "${BASH_SOURCE[0]}")"
source "$HERE/engine.sh"
MEMBERS="${MEMBERS:-20000}"
# About 20 s of work for three workers, so that a kill and an upgrade happen amid it.
MEMBER_SECONDS="${MEMBER_SECONDS:-0.04}"
# All four services are replaced meanwhile.
UPGRADE_MEMBER_SECONDS="${UPGRADE_MEMBER_SECONDS:-0.5}"
# Longest wait for one thing, in seconds; a busy machine needs more.
export PATIENCE="${PATIENCE:-240}"
WORKERS=3
# In the order of an upgrade.
SERVICES=(taskgroup agency eventmanager gateway)

step() { printf '\n== compose-test: %s (%ds)\n' "$1" "$SECONDS"; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
fan_out() { python3 "$HERE/fan_out.py" "$@"; }
compose() { (cd "$REPOSITORY" && "$COMPOSE" --ansi never --progress quiet "$@"); }
containers() { podman ps --quiet --no-trunc --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" "$@"; }
of_service() { containers --filter "label=com.docker.compose.service=$1"; }

start_engine() {
  mkdir -p "$RUN"
  # Without systemd Podman cannot run health checks by itself: run_health_checks does.
  DISABLE_HC_SYSTEMD=true setsid podman system service --time=0 "unix://$RUN/podman.sock" >"$TESTING/service.log" 2>&1 &
  started+=("$!")
  export DOCKER_HOST="unix://$RUN/podman.sock"
  timeout 30 bash -c "until [ -S '$RUN/podman.sock' ]; do sleep 0.1; done" ||
    refuse "podman system service did not start; its log is $TESTING/service.log"
}

run_health_checks() {
  while sleep 3; do
    for each in $(containers --filter health=starting --filter health=unhealthy); do
      timeout 20 podman healthcheck run "$each" >/dev/null 2>&1 &
    done
    wait
  done
}

stop() {
  local code="$?"
  trap - EXIT
  [ "$code" -eq 0 ] || explain
  [ "${#started[@]}" -lt 2 ] || kill "${started[1]}" 2>/dev/null || true
  [ -z "${DOCKER_HOST:-}" ] || compose --profile history down --volumes --remove-orphans --timeout 5 >/dev/null 2>&1 || true
  [ "${#started[@]}" -lt 1 ] || kill "${started[0]}" 2>/dev/null || true
  rm -rf "$RUN"
  exit "$code"
}

explain() {
  containers --all | while read -r each; do
    podman ps --all --filter "id=$each" --format '{{.Names}}: {{.Status}}'
    podman logs --tail 5 "$each" 2>&1 | cut -c1-300 | sed 's/^/    /'
  done >&2
}

await_gateway() {
  timeout "$PATIENCE" bash -c "until curl --silent --fail --output /dev/null $URL/v1/runs; do sleep 0.2; done" ||
    refuse "the gateway does not respond at $URL"
}

# Podman restarts what has ended by itself, but not what `podman kill` has ended: the process is killed.
kill_one() {
  local id pid now
  id="$(of_service "$1" | sed -n 1p)"
  pid="$(podman inspect --format '{{.State.Pid}}' "$id")"
  kill -KILL "$pid"
  timeout "$PATIENCE" bash -c "until now=\$(podman inspect --format '{{.State.Pid}}' '$id') && [ \"\$now\" != 0 ] &&
    [ \"\$now\" != '$pid' ]; do sleep 0.2; done" || refuse "the container of $1 was not started again after SIGKILL"
  now="$(podman inspect --format '{{.RestartCount}}' "$id")"
  echo "SIGKILL of process $pid of $1: started again ($now)"
}

kill_amid_fan_out() {
  local run
  run="$(fan_out submit "$URL" "$MEMBERS" "$MEMBER_SECONDS")"
  fan_out progress "$URL" "$run" $((MEMBERS / 20))
  kill_one "$1"
  fan_out verify "$URL" "$run" "$MEMBERS"
}

upgrade_amid_fan_out() {
  local run each old scale
  export ANABRANCH_IMAGE="$NEXT"
  run="$(fan_out submit "$URL" "$MEMBERS" "$UPGRADE_MEMBER_SECONDS")"
  for each in "${SERVICES[@]}"; do
    fan_out progress "$URL" "$run" $((MEMBERS / 50))
    scale=()
    [ "$each" != taskgroup ] || scale=(--scale "taskgroup=$WORKERS")
    compose up --detach --no-deps --no-build ${scale[@]+"${scale[@]}"} "$each"
    echo "$each has the new image (${SECONDS} s)"
  done
  fan_out verify "$URL" "$run" "$MEMBERS"
  for each in "${SERVICES[@]}"; do
    old="$(of_service "$each" | xargs podman inspect --format '{{.ImageName}}' | grep -vc "$NEXT" || true)"
    [ "$old" -eq 0 ] || refuse "$old containers of $each still run the old image"
  done
}

# The three ways to send a request that the docs name.
first_requests() {
  local each command=(env -u ANABRANCH_AGENTS "$REPOSITORY/.venv/bin/anabranch" run "$REPOSITORY/examples/hello.yaml")
  compose exec -T taskgroup anabranch run /dev/stdin <"$REPOSITORY/examples/words.yaml" 2>&1 | tail -n 1
  compose exec -T agency anabranch run /dev/stdin <"$REPOSITORY/examples/hello.yaml" 2>&1 | tail -n 1
  "${command[@]}" --brokers "localhost:$KAFKA_PORT" \
    --redis-url "redis://localhost:$REDIS_PORT/0" 2>&1 | tail -n 1
  "${command[@]}" --url "$URL" 2>&1 | tail -n 1
  each="$(of_service taskgroup | wc -l)"
  [ "$each" -eq "$WORKERS" ] || refuse "$each workers run, not $WORKERS"
}

require_no_leftovers() {
  local left
  left="$(containers --all; podman volume ls --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME"
    podman network ls --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")"
  [ -z "$left" ] || refuse "left behind: $left"
}

main() {
  require_engine
  bash "$HERE/server_images.sh"
  COMPOSE="$(bash "$HERE/compose_tool.sh")"
  RUN="/run/anabranch-testing/compose-$$"
  NEXT=localhost/anabranch:compose-next
  URL="http://localhost:$(free_port)"
  started=()
  export ANABRANCH_IMAGE=localhost/anabranch:compose COMPOSE_PROJECT_NAME=anabranch-compose-test
  export KAFKA_IMAGE=localhost/anabranch-test-kafka REDIS_IMAGE=localhost/anabranch-test-valkey
  export POSTGRES_IMAGE=localhost/anabranch-test-postgres GATEWAY_PORT="${URL##*:}"
  KAFKA_PORT="$(free_port)" REDIS_PORT="$(free_port)"
  export KAFKA_PORT REDIS_PORT
  export ANABRANCH_AGENTS_FOLDER="$REPOSITORY/examples" ANABRANCH_AGENTS=word_agents
  trap stop EXIT

  step "build"
  build_image "$ANABRANCH_IMAGE" --build-arg VERSION=0.0.1 "$REPOSITORY"
  # Another image with the same programs, as a later version is another image.
  mkdir -p "$RUN/next"
  printf 'FROM %s\nLABEL org.opencontainers.image.version=0.0.2\n' "$ANABRANCH_IMAGE" >"$RUN/next/Dockerfile"
  build_image "$NEXT" "$RUN/next"
  start_engine
  run_health_checks &
  started+=("$!")
  compose --profile history down --volumes --remove-orphans --timeout 5
  step "docker compose up --scale taskgroup=$WORKERS ($("$COMPOSE" version --short), $(podman --version))"
  compose --profile history up --detach --no-build --scale "taskgroup=$WORKERS"
  await_gateway
  first_requests
  compose exec -T postgres psql --username anabranch --dbname anabranch --tuples-only --command 'select version()'
  for each in "${SERVICES[@]}"; do
    step "SIGKILL of $each amid a fan-out"
    kill_amid_fan_out "$each"
  done
  step "upgrade amid a fan-out"
  upgrade_amid_fan_out
  step "docker compose down"
  compose --profile history down --volumes --timeout 30
  require_no_leftovers
  step "passed"
}

main "$@"
