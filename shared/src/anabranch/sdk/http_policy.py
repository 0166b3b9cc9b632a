"""Decides whether the `http` agent may connect to an address. Pure: resolves no names, opens no connections.

Addresses that are not public (loopback, private, link-local, reserved, multicast) are refused, unless the
allow-list has them, or has the host by its exact name.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self

from anabranch.core.errors import Misconfigured
from anabranch.sdk.special_addresses import embedded, is_public

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class AllowList:
    """`ANABRANCH_HTTP_ALLOW`: hosts, `*.domain` patterns, addresses and networks, separated by commas.

    An empty list allows every public host. Otherwise only listed hosts are allowed; `*` adds every public host.
    Exact hosts, addresses and networks in the list need not be public; hosts that match only a pattern must be.
    """

    hosts: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    everything: bool = True

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the list. Raises Misconfigured for an entry with a scheme, a path or a wildcard other than a
        leading `*.`."""
        entries = [entry.strip().lower().rstrip(".") for entry in text.split(",") if entry.strip()]
        hosts, suffixes, networks = set(), [], []
        for entry in entries:
            if network := _network(entry):
                networks.append(network)
            elif entry.startswith("*."):
                suffixes.append(entry[1:])
            elif entry != "*":
                hosts.add(_checked_host(entry))
        return cls(frozenset(hosts), tuple(suffixes), tuple(networks), not entries or "*" in entries)

    def refusal(self, host: str, address: str) -> str | None:
        """Why a connection to `address`, to which `host` was resolved, is refused; None if it is allowed."""
        name = host.lower().rstrip(".")
        given = ipaddress.ip_address(address.partition("%")[0])  # without an IPv6 zone: `fe80::1%eth0`
        ip = embedded(given)
        if name in self.hosts or any(ip.version == net.version and ip in net for net in self.networks):
            return None
        if not (self.everything or name.endswith(self.suffixes or "\0")):
            return f"the host {host} is not in ANABRANCH_HTTP_ALLOW"
        if not is_public(given):
            return f"{host} is {given}, which is not a public address; list it in ANABRANCH_HTTP_ALLOW to allow it"
        return None


def _network(entry: str) -> Network | None:
    try:
        return ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return None


def _checked_host(entry: str) -> str:
    if any(char in entry for char in "/*:@ "):
        raise Misconfigured(
            "ANABRANCH_HTTP_ALLOW",
            f"{entry!r} is not a host",
            "use names, *.domain, addresses or networks, without scheme, port or path",
        )
    return entry
