"""Checks the `Host` header against `gateway_allowed_hosts`, as a defence against DNS rebinding.

A foreign web page can let its own name resolve to an address of this gateway; the browser then sends that name as
`Host` and lets the page read the responses. A gateway that knows its own names refuses all others.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from anabranch.core.errors import Misconfigured

SETTING = "gateway_allowed_hosts"
MAX_PORT = 65_535
_HEADER = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-fA-F:.]{2,45})\]|(?P<name>[\w][\w.-]{0,254}))(?::(?P<port>[0-9]{0,5}))?", re.A
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def host_of(header: str) -> str | None:
    """The host of a `Host` header in lower case, without port, brackets and final dot; None if it is malformed."""
    match = _HEADER.fullmatch(header)
    if match is None or int(match["port"] or 0) > MAX_PORT:
        return None
    if match["ipv6"] is not None:
        return match["ipv6"].lower() if isinstance(_address(match["ipv6"]), ipaddress.IPv6Address) else None
    name = match["name"].lower().removesuffix(".")
    # The pattern permits dots anywhere; a name with an empty label is not a host.
    return None if ".." in name or name.endswith(".") else name


def is_loopback(host: str) -> bool:
    """True if only this machine reaches a host."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    address = _address(host.strip("[]"))
    return address is not None and address.is_loopback


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts that a gateway accepts, in addition to this machine's own names.

    Args:
        names: exact names.
        suffixes: allowed endings of names, such as `.example.org`.
        networks: allowed IP addresses.
        everything: any host is allowed.
    """

    names: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    everything: bool = False

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Self:
        """The hosts of `gateway_allowed_hosts`: names, `*.domain`, addresses, networks, or `*` for any.

        Raises:
            Misconfigured: an entry is none of these.
        """
        names, suffixes, networks, everything = set(), [], [], False
        for entry in entries:
            lower = entry.strip().lower()
            if lower == "*":
                everything = True
            elif network := _network(lower):
                networks.append(network)
            elif lower.startswith("*."):
                suffixes.append(f".{_name(lower[2:], entry)}")
            else:
                names.add(_name(lower, entry))
        return cls(frozenset(names), tuple(suffixes), tuple(networks), everything)

    @classmethod
    def of_address(cls, bound: str) -> Self:
        """The hosts of a gateway without `gateway_allowed_hosts`: its bind address, and if bound beyond this
        machine any IP address.

        An IP address as `Host` is safe from DNS rebinding: no name was resolved.
        """
        if is_loopback(bound):
            return cls()
        own = frozenset() if _address(bound) else frozenset({bound.lower()})
        return cls(own, networks=(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))

    def allow(self, host: str) -> bool:
        """True if the gateway accepts a host in the form returned by `host_of`."""
        # Names of this machine are safe: no foreign page has one of them.
        if self.everything or host in self.names or is_loopback(host):
            return True
        address = _address(host)
        if address is None:
            return bool(self.suffixes) and host.endswith(self.suffixes)
        return any(address.version == network.version and address in network for network in self.networks)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> Network | None:
    try:
        # Not strict, so that `10.0.0.5/8` is accepted as the network of this address.
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def _name(text: str, entry: str) -> str:
    if (host := host_of(text)) is None or host != text.removesuffix("."):
        fix = "list names, *.domain, addresses or networks, without scheme and port"
        raise Misconfigured(SETTING, f"{entry!r} is not a host", fix)
    return host
