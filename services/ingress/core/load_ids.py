"""Signed load ids: they prove when, and for which dataset, they were issued, so no table stores them."""

import hmac
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

_TIME: Final = 8
_RANDOM: Final = 12
_SIGNATURE: Final = 12
_LENGTH: Final = _TIME + _RANDOM + _SIGNATURE
REQUEST_TTL: Final = timedelta(days=1)
"""How long a load that etl has not recorded counts as requested; later its id is unknown."""


def new_load_id(key: bytes, now: datetime, dataset: str) -> str:
    """Return an id of 32 hex digits: the time, what cannot be guessed, and the proof of both and of the dataset."""
    signed = f"{int(now.timestamp()):0{_TIME}x}{secrets.token_hex(_RANDOM // 2)}"
    return signed + _sign(key, signed, dataset)


def requested_at(key: bytes, load_id: str, now: datetime, datasets: Iterable[str]) -> datetime | None:
    """Return when the id was issued for one of `datasets`; None if it was not, or has expired."""
    signed, signature = load_id[: _TIME + _RANDOM], load_id[_TIME + _RANDOM :]
    if len(load_id) != _LENGTH or not load_id.isascii():
        return None
    if not any(hmac.compare_digest(signature, _sign(key, signed, one)) for one in datasets):
        return None
    at = datetime.fromtimestamp(int(signed[:_TIME], 16), UTC)
    return at if now - at <= REQUEST_TTL else None


def _sign(key: bytes, signed: str, dataset: str) -> str:
    return hmac.digest(key, f"load {signed} {dataset}".encode(), "sha256").hex()[:_SIGNATURE]
