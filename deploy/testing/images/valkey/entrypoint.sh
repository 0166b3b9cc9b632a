#!/bin/sh
# A server in a container is reached from other hosts: as in the image of Valkey, protected mode is off.
[ "$1" != valkey-server ] || set -- "$@" --protected-mode no
exec "$@"
