"""Classifies IP addresses as public or special, by a fixed table.

The standard library's `is_global` follows the registries of IANA at the time of each Python release: 192.0.0.0/24
is public for Python 3.11 and not for 3.13. The table below is the IANA IPv4 and IPv6 Special-Purpose Address
Registries (RFC 6890 and its successors, as of 2025) with multicast, without the blocks that they call globally
reachable and that hold ordinary servers (the AS112 and AMT anycast blocks 192.31.196.0/24, 192.52.193.0/24,
192.175.48.0/24 and 2620:4f:8000::/48).
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SPECIAL_IPV4 = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private use
        "100.64.0.0/10",  # shared address space of carriers
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link local, metadata services of clouds
        "172.16.0.0/12",  # private use
        "192.0.0.0/24",  # IETF protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4, deprecated
        "192.168.0.0/16",  # private use
        "198.18.0.0/15",  # benchmarks of networks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, with the limited broadcast
    )
)

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""The allocated IPv6 unicast range: addresses outside of it are special or unallocated."""

SPECIAL_IPV6 = tuple(
    ipaddress.IPv6Network(block)
    for block in (
        "2001::/23",  # IETF protocol assignments: Teredo, benchmarks, ORCHID, anycast of protocols
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
"""The special blocks within `GLOBAL_UNICAST`."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOW_32 = 0xFFFFFFFF


def embedded(ip: Address) -> Address:
    """The IPv4 address embedded in an IPv6 address (mapped, 6to4, Teredo, NAT64), else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    return ipaddress.IPv4Address(int(ip) & _LOW_32) if ip in _NAT64 else ip


def is_public(ip: Address) -> bool:
    """True if an address is on the public internet, judged by its embedded IPv4 address."""
    if isinstance(ip, ipaddress.IPv6Address) and ip.teredo is not None and not is_public(ip.teredo[0]):
        return False  # a packet to a Teredo address goes first to the server encoded in the address
    ip = embedded(ip)
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in block for block in SPECIAL_IPV4)
    return ip in GLOBAL_UNICAST and not any(ip in block for block in SPECIAL_IPV6)
