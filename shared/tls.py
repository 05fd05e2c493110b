"""TLS of all clients in this process: trusted authorities, and explanations of failures."""

import ssl
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from shared.errors import Rejected
from shared.settings import Settings

_HOST_MISMATCH_CODES: Final = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


def context(settings: Settings) -> ssl.SSLContext:
    """Return a context that verifies certificates and host names.

    Raises:
        Rejected: SETTINGS if PENSTOCK_TLS_CA is not a PEM file of certificates.

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
    """Return the cause of a TLS failure and the fix in one line; empty if `error` has another cause."""
    found = next((one for one in _causes(error) if _has_openssl_details(one)), None)
    if not isinstance(found, ssl.SSLError):
        return ""
    if isinstance(found, ssl.SSLCertVerificationError):
        message = found.verify_message.rstrip(".").lower()
        if found.verify_code in _HOST_MISMATCH_CODES:
            return f"its certificate is for another host ({message}): use a name that the certificate has"
        return f"its certificate is not trusted ({message}): set PENSTOCK_TLS_CA to the PEM file of its authority"
    reason = (found.reason or type(found).__name__).replace("_", " ").lower()
    return f"no TLS connection ({reason}): use the server's TLS port, or a TLS version that it supports"


def _has_openssl_details(error: BaseException) -> bool:
    """Return whether this is OpenSSL's own error; those that libraries derive from it lack the details."""
    detail = "verify_message" if isinstance(error, ssl.SSLCertVerificationError) else "reason"
    return isinstance(error, ssl.SSLError) and hasattr(error, detail)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and its causes; libraries keep them in different attributes."""
    seen: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseException) and not any(one is known for known in seen):
            seen.append(one)
            yield one
            pending += [one.__cause__, one.__context__, *one.args]
            pending += getattr(one, "exceptions", ())
