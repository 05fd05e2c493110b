"""Where a webhook may lead: public addresses only, whatever names stand before them."""

import ipaddress
from typing import Final

_EMBEDDING: Final = (
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (ipaddress.IPv6Network("::/96"), 0),  # IPv4-compatible, RFC 4291
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated, RFC 2765
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
"""IPv6 networks whose addresses hold one of IPv4, and how many bits stand behind it."""
_PROTOCOLS: Final = ipaddress.IPv4Network("192.0.0.0/24")
"""Of protocols, RFC 6890; one cloud has its metadata there."""
_REFUSED: Final = (
    ipaddress.IPv6Network("2001::/32"),  # Teredo, RFC 4380
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # a network's own NAT64, RFC 8215
)


def is_public(text: str) -> bool:
    """Tell whether an address is one of the open internet: not this machine, its networks, or a cloud's metadata."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return _is_open(address)
    if address.is_site_local or address.scope_id or any(address in net for net in _REFUSED):
        return False
    held = [ipaddress.IPv4Address(int(address) >> bits & 0xFFFFFFFF) for net, bits in _EMBEDDING if address in net]
    return all(_is_open(one) for one in held) if held else _is_open(address)


def _is_open(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return (
        address.is_global
        and address not in _PROTOCOLS
        and not (address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback)
    )
