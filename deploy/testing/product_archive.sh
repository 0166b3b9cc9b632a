#!/usr/bin/env bash
# Build the product's image with Podman, and write it as an archive that containerd can import.
# Usage: product_archive.sh ARCHIVE [COMMIT]
# With a commit of this repository's history, the code is that of the commit, and all else is of this version: the
# libraries and the Dockerfile.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"

# The build context of a commit, in the folder $1.
context_of() {
  git -C "$REPOSITORY" archive "$2" shared services pyproject.toml README.md LICENSE | tar -x -C "$1"
  cp -R "$REPOSITORY/requirements" "$1"
}

main() {
  local archive="$1" commit="${2:-}" tag=localhost/anabranch:cluster
  context="$REPOSITORY"
  require_engine
  bash "$(dirname "${BASH_SOURCE[0]}")/base_image.sh"
  if [ -n "$commit" ]; then
    tag=localhost/anabranch:previous
    context="$(mktemp -d)"
    trap 'rm -rf "$context"' EXIT
    context_of "$context" "$commit"
  fi
  build_image "$tag" --file "$REPOSITORY/Dockerfile" --target service "$context"
  rm -f "$archive"
  podman save --quiet --format docker-archive --output "$archive" "$tag"
}

main "$@"
