"""Where a request comes from, as browsers say it, and where it may be sent on to."""

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
    """Tell whether a browser sent this for another site; `own` is the host and port that users see.

    Sec-Fetch-Site and Origin cannot be forged by a page (https://www.w3.org/TR/fetch-metadata/); programs send
    neither. An Origin of `null` may be our own page under a strict referrer policy, if the browser says so.
    """
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin", "")
    if site == "cross-site":
        return True
    if origin == "null":
        return site != "same-origin"
    return bool(origin) and (_netloc(origin) or "?") not in {headers.get("host", "").lower(), own}


def is_browser(headers: Mapping[str, str]) -> bool:
    """Tell whether a browser sent this: it says where from, in one header or another, and programs say it in none."""
    return any(name in headers for name in ("sec-fetch-site", "origin", "referer"))


def is_own_host(host: str, own: str) -> bool:
    """Tell whether the Host header names this machine, or the address that users see; none is no browser's.

    Any other name may be one that an attacker let point here (DNS rebinding).
    """
    name = _hostname(host)
    return not host or (bool(name) and (name == "localhost" or _is_loopback(name) or name == _hostname(own)))


def safe_next(path: str) -> str:
    """Return `path` when it stays on this site and is no longer than an address needs to be, else the start page."""
    is_path = len(path) <= MAX_NEXT and path.startswith("/") and not path.startswith("//")
    is_plain = all("!" <= char <= "~" and char != "\\" for char in path)
    return path if is_path and is_plain else HOME


def host_of(url: str) -> str:
    """Return host and port of an address, as browsers write them."""
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
