#!/usr/bin/env bash
# Makes the image that stands in for the Dockerfile's base where no image registry is reachable: Debian's Python from
# the package mirror of this machine, as localhost/anabranch-test-base. Once; `--again` makes it new.
# Usage: base_image.sh [--again]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"

# Debian's packages that the official image of Python has too, and the root certificates.
BASE_PACKAGES=python3,python3-venv,ca-certificates,tzdata,netbase

mirror() {
  local found
  found="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $1" | sed -n 1p)"
  [ -n "$found" ] || refuse "the apt sources of this machine name no mirror of Debian $1"
  printf %s "$found"
}

main() {
  require_engine
  local suite root
  suite="$(. /etc/os-release && printf %s "${VERSION_CODENAME:-}")"
  mkdir -p "$TESTING"
  exec 9>"$TESTING/base.lock"
  flock 9
  if [ "${1:-}" != --again ] && podman image exists "$BASE_IMAGE"; then
    return
  fi
  root="$TESTING/base"
  rm -rf "$root"
  echo "making $BASE_IMAGE from Debian $suite (2 minutes)"
  debootstrap --variant=minbase "--include=$BASE_PACKAGES" "$suite" "$root" "$(mirror "$suite")" \
    >"$TESTING/debootstrap.log" 2>&1 ||
    refuse "debootstrap failed, its log is $TESTING/debootstrap.log: $(tail -n 1 "$TESTING/debootstrap.log")"
  # No list of packages, no archive and no address of the mirror stays in the image, which builds mount instead.
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/* \
    "$root"/var/log/* "$root"/etc/apt/sources.list
  # As in the official image: python and pip in /usr/local, with no note that Debian manages them.
  chroot "$root" python3 -m venv /usr/local
  ln -s /usr/local/bin/python "$root/usr/bin/python"
  tar -C "$root" -c . | podman import --change 'CMD ["python3"]' - "$BASE_IMAGE" >/dev/null
  rm -rf "$root"
  echo "$BASE_IMAGE: $(podman run --rm --network=none "$BASE_IMAGE" python --version)"
}

main "$@"
