"""Webhooks: who is told of which facts, how a delivery is signed, and when it is tried again."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

from services.ingress.core.access import Principal
from services.ingress.core.fact_filter import FactFilter, is_visible_to
from services.ingress.core.facts import Fact

BACKOFF_FACTOR: Final = 4
MAX_DELAY: Final = timedelta(hours=1)
MIN_DELAY: Final = timedelta(seconds=1)
"""Of those that the other side asks for."""
MAX_DIGITS: Final = 9
_BUSY: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how a secret begins


@dataclass(frozen=True, slots=True)
class Webhook:
    """A subscription; `cursor` is the last fact it was told of, `failures` counts tries of the next one."""

    id: str
    url: str
    fact_filter: FactFilter
    prefixes: tuple[str, ...]
    cursor: int
    created_by: str
    token_id: str
    """Whose right it is; it ends with that one."""
    created_at: datetime
    enabled: bool = True
    failures: int = 0
    last_error: str | None = None
    last_delivered_at: datetime | None = None
    next_try_at: datetime | None = None

    def matches(self, fact: Fact) -> bool:
        """Tell whether this one is told of `fact`: it never hears of more than whoever made it sees."""
        return self.fact_filter.matches(fact) and is_visible_to(Principal("", "", frozenset(), self.prefixes), fact)


def derive_secret(key: bytes, webhook_id: str) -> str:
    """Return what a webhook's deliveries are signed with: derived, so that it is kept nowhere."""
    digest = hmac.digest(key, f"webhook:{webhook_id}".encode(), hashlib.sha256)
    return SECRET_PREFIX + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def delivery_body(payload: Mapping[str, Any]) -> bytes:
    """Return the body of a delivery: a fact as it is told everywhere."""
    return json.dumps(payload, separators=(",", ":"), default=str).encode()


def delivery_headers(payload: Mapping[str, Any], body: bytes, secret: str, now: int) -> dict[str, str]:
    """Return the headers of a delivery; `now` is in seconds since 1970."""
    return {
        "content-type": "application/json",
        "user-agent": "penstock",
        "penstock-event-id": str(payload["event_id"]).encode("ascii", "backslashreplace").decode(),
        "penstock-event-type": str(payload["type"]).encode("ascii", "backslashreplace").decode(),
        "penstock-signature": signature(secret, now, body),
    }


def signature(secret: str, now: int, body: bytes) -> str:
    """Return `t=<seconds>,v1=<hex>`: the time is signed too, so that an old delivery cannot be sent again."""
    signed = hmac.digest(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hex()
    return f"t={now},v1={signed}"


def retry_delay(failures: int, first: float) -> timedelta:
    """Return how long to wait after so many failures in a row, at first `first` seconds and at most an hour."""
    seconds = first * BACKOFF_FACTOR ** min(max(0, failures - 1), 30)
    return min(timedelta(seconds=min(seconds, MAX_DELAY.total_seconds())), MAX_DELAY)


def requested_delay(status: int, retry_after: str, now: datetime) -> timedelta | None:
    """Return how long a receiver that is busy (429, 503) asks to wait, a second to an hour; None: it does not say.

    `retry_after` is its header of that name, seconds or an HTTP date: RFC 9110, section 10.2.3.
    """
    text = retry_after.strip()
    if status not in _BUSY or not text:
        return None
    if text.isascii() and text.isdigit():
        wait = MAX_DELAY if len(text) > MAX_DIGITS else timedelta(seconds=int(text))
    else:
        try:
            until = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        wait = (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
    return min(max(wait, MIN_DELAY), MAX_DELAY)


def test_fact(hook: Webhook, now: datetime) -> Fact:
    """Return a fact that nobody has told, by which an owner tries a webhook."""
    body = {"webhook": hook.id, "text": "If you can read this, deliveries arrive."}
    return Fact("", 0, 0, f"trial-{hook.id}-{now.timestamp():.0f}", "webhooks.tried.v1", now, "ingress", body=body)


def describe(hook: Webhook) -> dict[str, Any]:
    """Return a webhook as its owner sees it; the secret is not part of it."""
    return {
        "id": hook.id,
        "url": hook.url,
        "types": list(hook.fact_filter.types),
        "bucket": hook.fact_filter.bucket,
        "prefix": hook.fact_filter.prefix,
        "enabled": hook.enabled,
        "cursor": hook.cursor,
        "failures": hook.failures,
        "last_error": hook.last_error,
        "last_delivered_at": hook.last_delivered_at,
        "next_try_at": hook.next_try_at if hook.failures or hook.last_error else None,
        "created_by": hook.created_by,
        "created_at": hook.created_at,
    }
