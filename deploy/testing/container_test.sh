#!/usr/bin/env bash
# Runs the tests of the executor of containers on a Podman of their own: the contract of engines, and fan-outs amid
# kills. Usage: container_test.sh [arguments of pytest]
set -euo pipefail
HERE="$(dirname "${BASH_SOURCE[0]}")"
source "$HERE/engine.sh"

stop() {
  local code="$?"
  trap - EXIT
  if [ -n "${service:-}" ]; then
    kill "$service" 2>/dev/null || true
    wait "$service" 2>/dev/null || true
  fi
  rm -rf "$SCRATCH"
  exit "$code"
}

main() {
  SCRATCH="$(mktemp -d)"
  trap stop EXIT
  bash "$HERE/base_image.sh"
  require_engine
  podman system service --time=0 "unix://$SCRATCH/engine.sock" >"$SCRATCH/service.log" 2>&1 &
  service="$!"
  timeout 60 bash -c "until [ -S '$SCRATCH/engine.sock' ]; do sleep 0.1; done" ||
    refuse "podman system service did not start: $(tail -n 1 "$SCRATCH/service.log")"
  cd "$REPOSITORY"
  export ANABRANCH_TEST_CONTAINER_ENGINE="unix://$SCRATCH/engine.sock" ANABRANCH_TEST_CONTAINER_IMAGE="$BASE_IMAGE"
  python -m pytest -ra -s tests/system/test_container_fan_out.py "$@"
}

main "$@"
