#!/usr/bin/env bash
# Build the product's image with Podman, and write it as an archive that containerd can import.
# Usage: product_archive.sh ARCHIVE
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"

main() {
  local archive="$1"
  require_engine
  bash "$(dirname "${BASH_SOURCE[0]}")/base_image.sh"
  build_image localhost/anabranch:cluster --target service "$REPOSITORY"
  rm -f "$archive"
  podman save --quiet --format docker-archive --output "$archive" localhost/anabranch:cluster
}

main "$@"
