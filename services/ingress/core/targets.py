"""Allowed targets of webhooks: public addresses only."""

import ipaddress
from typing import Final

_EMBEDDING: Final = (
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (ipaddress.IPv6Network("::/96"), 0),  # IPv4-compatible, RFC 4291
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated, RFC 2765
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
"""IPv6 networks whose addresses embed an IPv4 address, and the number of bits after it."""
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All that has been allocated as global unicast: https://www.iana.org/assignments/ipv6-address-space"""
_REFUSED: Final = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocols, RFC 6890; one cloud has its metadata there
    ipaddress.IPv4Network("192.31.196.0/24"),  # AS112, RFC 7535
    ipaddress.IPv4Network("192.52.193.0/24"),  # AMT, RFC 7450
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays, RFC 7526
    ipaddress.IPv4Network("192.175.48.0/24"),  # AS112, RFC 7534
    ipaddress.IPv6Network("2001::/23"),  # protocols, RFC 2928: Teredo, benchmarks, ORCHID, DRIP
    ipaddress.IPv6Network("2001:db8::/32"),  # documentation, RFC 3849
    ipaddress.IPv6Network("2620:4f:8000::/48"),  # AS112, RFC 7534
    ipaddress.IPv6Network("3fff::/20"),  # documentation, RFC 9637
)
"""Special-purpose networks listed by IANA; Python's `is_global` knows only some of them.

https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry
"""
PORTS: Final = {"http": 80, "https": 443}
_SYSTEM_PORTS: Final = 1024
_MAX_PORT: Final = 65_535
_OTHER_SERVICES: Final = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080}
)
"""Ports past 1024 that browsers refuse too: https://fetch.spec.whatwg.org/#port-blocking"""


def is_web_port(port: int) -> bool:
    """Return whether a web server may listen on `port`: well-known ports of other services are refused."""
    if port < _SYSTEM_PORTS:
        return port in PORTS.values()
    return port <= _MAX_PORT and port not in _OTHER_SERVICES


def is_public(text: str) -> bool:
    """Return whether an address is public: not this machine, its networks, or a cloud's metadata service."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return _is_open(address)
    if address.scope_id:
        return False
    held = [ipaddress.IPv4Address(int(address) >> bits & 0xFFFFFFFF) for net, bits in _EMBEDDING if address in net]
    return all(_is_open(one) for one in held) if held else address in _UNICAST and _is_open(address)


def _is_open(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return (
        address.is_global
        and not any(address in net for net in _REFUSED)
        and not (address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback)
    )
