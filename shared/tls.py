"""TLS as every client of this process speaks it: which authorities are trusted, and what a failure means."""

import ssl
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from shared.errors import Rejected
from shared.settings import Settings

_HOST_DIFFERS: Final = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


def context(settings: Settings) -> ssl.SSLContext:
    """Return a context that verifies certificates and host names.

    Raises:
        Rejected: SETTINGS when PENSTOCK_TLS_CA is no file of certificates.

    """
    return _context(settings.tls_ca)


@lru_cache(maxsize=8)
def _context(authorities: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        reason = f"PENSTOCK_TLS_CA={authorities} cannot be read ({error}): set it to a PEM file of certificates"
        raise Rejected("SETTINGS", reason) from None


def describe_failure(error: BaseException) -> str:
    """Return what TLS failed of and the fix, in one line; empty when `error` has another cause."""
    found = next((one for one in _causes(error) if _is_openssl_own(one)), None)
    if not isinstance(found, ssl.SSLError):
        return ""
    if isinstance(found, ssl.SSLCertVerificationError):
        message = found.verify_message.rstrip(".").lower()
        if found.verify_code in _HOST_DIFFERS:
            return f"its certificate is for another host ({message}): use a name that the certificate has"
        return f"its certificate is not trusted ({message}): set PENSTOCK_TLS_CA to the PEM file of its authority"
    reason = (found.reason or type(found).__name__).replace("_", " ").lower()
    return f"no TLS connection ({reason}): the server may not speak TLS on this port, or ours is another version"


def _is_openssl_own(error: BaseException) -> bool:
    """Whether this is OpenSSL's error and not one that a library made of it, which has no details."""
    detail = "verify_message" if isinstance(error, ssl.SSLCertVerificationError) else "reason"
    return isinstance(error, ssl.SSLError) and hasattr(error, detail)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and the errors it was made of; libraries keep them in different places."""
    seen: list[BaseException] = []
    left: list[object] = [error]
    while left:
        one = left.pop(0)
        if isinstance(one, BaseException) and not any(one is known for known in seen):
            seen.append(one)
            yield one
            left += [one.__cause__, one.__context__, *one.args]
            left += getattr(one, "exceptions", ())
