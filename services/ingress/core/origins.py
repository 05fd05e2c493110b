"""The origin of a request by its browser headers, and safe redirect targets."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
HOME: Final = "/"
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d*)?", re.ASCII)
"""Host and port (https://www.rfc-editor.org/rfc/rfc9110#name-host-and-authority)."""
MAX_NEXT: Final = 4096


def is_cross_site(headers: Mapping[str, str], own: str) -> bool:
    """Return whether a browser sent this for another site; `own` is the public host and port.

    Pages cannot forge Sec-Fetch-Site and Origin (https://www.w3.org/TR/fetch-metadata/); programs send neither. An
    Origin of `null` may be our own page under a strict referrer policy, if Sec-Fetch-Site says so.
    """
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin", "")
    if site == "cross-site":
        return True
    if origin == "null":
        return site != "same-origin"
    return bool(origin) and (_netloc(origin) or "?") not in {headers.get("host", "").lower(), own}


def is_browser(headers: Mapping[str, str]) -> bool:
    """Return whether a browser sent this, by headers that programs do not send."""
    return any(name in headers for name in ("sec-fetch-site", "origin", "referer"))


def is_own_host(host: str, own: str) -> bool:
    """Return whether the Host header names this machine or the public address.

    Any other name may be one that an attacker's DNS points here (DNS rebinding).
    """
    name = _hostname(host)
    return not host or (bool(name) and (name == "localhost" or _is_loopback(name) or name == _hostname(own)))


def safe_next(path: str) -> str:
    """Return `path` when it stays on this site and is no longer than an address needs to be, else the start page."""
    is_path = len(path) <= MAX_NEXT and path.startswith("/") and not path.startswith("//")
    is_plain = all("!" <= char <= "~" and char != "\\" for char in path)
    return path if is_path and is_plain else HOME


def host_of(url: str) -> str:
    """Return host and port of a URL, as browsers write them."""
    return _netloc(url)


def _netloc(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.netloc.rpartition("@")[2].lower()
    return host.removesuffix(f":{port}") if port == usual else host


def _hostname(host: str) -> str:
    """Return the name in a Host header; empty for what is no host and port, such as `user@localhost`."""
    if not _HOST.fullmatch(host):
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
