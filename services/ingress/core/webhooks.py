"""Webhooks: subscriptions and retry delays."""

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
"""Lower bound for a requested delay."""
MAX_DIGITS: Final = 9
_BUSY: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A subscription; `cursor` is the last processed fact, `failures` counts attempts of the next one."""

    id: str
    url: str
    fact_filter: FactFilter
    prefixes: tuple[str, ...]
    cursor: int
    created_by: str
    token_id: str
    """The token whose rights it has; it ends with that token."""
    created_at: datetime
    enabled: bool = True
    failures: int = 0
    last_error: str | None = None
    last_delivered_at: datetime | None = None
    next_try_at: datetime | None = None

    def matches(self, fact: Fact) -> bool:
        """Return whether it receives `fact`: the filter matches and its maker may see the fact."""
        return self.fact_filter.matches(fact) and is_visible_to(Principal("", "", frozenset(), self.prefixes), fact)


def retry_delay(failures: int, first: float) -> timedelta:
    """Return the delay after consecutive failures: exponential from `first` seconds, at most an hour."""
    seconds = first * BACKOFF_FACTOR ** min(max(0, failures - 1), 30)
    return min(timedelta(seconds=min(seconds, MAX_DELAY.total_seconds())), MAX_DELAY)


def requested_delay(status: int, retry_after: str, now: datetime) -> timedelta | None:
    """Return the delay that a busy receiver (429, 503) requests, from a second to an hour; None without one.

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


def synthetic_fact(hook: Webhook, now: datetime) -> Fact:
    """Return a synthetic fact to test a webhook with."""
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
