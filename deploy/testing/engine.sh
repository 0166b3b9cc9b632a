# Sourced by the scripts of this folder: a Podman of their own, whose settings, images and containers are in
# $TESTING and not in /etc or /var/lib/containers. It sets no limit that a machine without CAP_SYS_RESOURCE refuses.

REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
SERVERS="${ANABRANCH_TEST_CACHE:-$REPOSITORY/.servers}"
TESTING="$SERVERS/testing"
BASE_IMAGE=localhost/anabranch-test-base
TESTING_PACKAGES=(podman runc buildah netavark aardvark-dns iptables uidmap debootstrap catatonit)

refuse() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# Containers need root here: debootstrap makes device files, and networks are bridges of the host.
require_engine() {
  [ "$(uname -s)" = Linux ] || refuse "containers are only run on Linux; this is $(uname -s)"
  [ "$(id -u)" -eq 0 ] || refuse "run it as root: it makes bridges, and a base image with debootstrap"
  local missing=()
  local each
  for each in podman runc debootstrap iptables; do
    command -v "$each" >/dev/null || missing+=("$each")
  done
  [ "${#missing[@]}" -eq 0 ] || install_engine "${missing[@]}"
  configure_engine
  podman info >/dev/null 2>"$TESTING/podman-info.log" ||
    refuse "podman does not work on this machine: $(tail -n 1 "$TESTING/podman-info.log")"
}

install_engine() {
  command -v apt-get >/dev/null ||
    refuse "missing: $*; only on Debian are they installed by this script (${TESTING_PACKAGES[*]})"
  echo "installing ${TESTING_PACKAGES[*]}"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    "${TESTING_PACKAGES[@]}"; } >/dev/null || refuse "apt-get could not install ${TESTING_PACKAGES[*]}"
}

# at_most NUMBER FLAG: the limit of this process, and not more than NUMBER, as soft:hard.
at_most() {
  local limit
  limit="$(ulimit -H "$2")"
  if [ "$limit" = unlimited ] || [ "$limit" -gt "$1" ]; then limit="$1"; fi
  printf %s "$limit:$limit"
}

configure_engine() {
  mkdir -p "$TESTING/networks"
  # Podman's own default asks for higher limits than the process has, which needs CAP_SYS_RESOURCE.
  cat >"$TESTING/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=$(at_most 16384 -n)", "nproc=$(at_most 16384 -u)"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "$TESTING/networks"
CONF
  cat >"$TESTING/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$TESTING/storage"
runroot = "/run/anabranch-testing/$(printf %s "$TESTING" | cksum | cut -d' ' -f1)"
CONF
  export CONTAINERS_CONF="$TESTING/containers.conf" CONTAINERS_STORAGE_CONF="$TESTING/storage.conf"
}

# A build reads the certificates, the package sources and the index of this machine, which are no part of the image.
build_options() {
  local each
  printf '%s\n' --network=host --pull=never --format=docker "--build-arg=BASE_IMAGE=$BASE_IMAGE"
  for each in /etc/ssl/certs /usr/local/share/ca-certificates; do
    [ ! -d "$each" ] || printf '%s\n' "--volume=$each:$each:O"
  done
  for each in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    if [ -f "$each" ] && grep -q "debian-archive-keyring\|^deb .*/debian[/ ]" "$each"; then
      printf '%s\n' "--volume=$each:$each:ro"
    fi
  done
  for each in /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf"; do
    if [ -f "$each" ]; then
      printf '%s\n' "--volume=$each:/etc/pip.conf:ro"
      break
    fi
  done
}

# build_image TAG ARGUMENT...: the log is printed only if the build fails.
build_image() {
  local tag="$1"
  shift
  local options log
  log="$TESTING/build-$(basename "$tag" | tr : -).log"
  mapfile -t options < <(build_options)
  podman build "${options[@]}" --tag "$tag" "$@" >"$log" 2>&1 || {
    tail -n 40 "$log" >&2
    refuse "$tag was not built; the whole log is $log"
  }
}
