#!/usr/bin/env bash
# Makes Docker Compose from its Go module and prints its path: 7 minutes once, then cached in .servers/tools.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
VERSION=v2.40.3
tool="$SERVERS/tools/docker-compose-$VERSION"

if [ ! -x "$tool" ]; then
  command -v go >/dev/null || refuse "Go is missing, which makes Docker Compose from its module; install Go 1.24 or newer"
  echo "making docker-compose $VERSION (7 minutes, once)" >&2
  source_folder="$TESTING/compose"
  mkdir -p "$source_folder" "$SERVERS/tools"
  cd "$source_folder"
  printf 'module anabranch.local/compose\n\ngo 1.24\n' >go.mod
  printf '//go:build tools\n\npackage tools\n\nimport _ "github.com/docker/compose/v2/cmd"\n' >tools.go
  export CGO_ENABLED=0 GOFLAGS="-mod=mod -p=1"
  { nice -n 19 go get "github.com/docker/compose/v2/cmd@$VERSION" &&
    nice -n 19 go build -trimpath -o "$tool.partial" \
      -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$VERSION" github.com/docker/compose/v2/cmd; } \
    >"$TESTING/compose-build.log" 2>&1 || refuse "Docker Compose was not built; the log is $TESTING/compose-build.log"
  mv "$tool.partial" "$tool"
  rm -rf "$source_folder"
fi
printf '%s\n' "$tool"
