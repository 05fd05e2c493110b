"""Explain why a wrong value is rejected, and how to fix it."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from services.etl.core.cleaning import COPY_NULL, is_number, parse_whole
from services.etl.core.datasets import Column
from services.etl.core.rejects import printable
from shared.text import unsafe_character

TRUE: Final = ("true", "t", "yes", "y", "1")
FALSE: Final = ("false", "f", "no", "n", "0")
MAX_KEY_BYTES: Final = 1024
"""Maximum bytes of a key: the limit of S3 keys, below that of a Postgres index."""
DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1)

Bound = int | float | date | datetime | None
ISO_DAY: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
ISO_TIMESTAMP: Final = re.compile(
    "(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    "(?:[Tt ](?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9])(?::(?P<second>[0-5][0-9])(?:[.,](?P<part>[0-9]{1,9}))?)?"
    " ?(?:[Zz]|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3])"
    "(?::?(?P<minutes>[0-5][0-9])(?::?(?P<seconds>[0-5][0-9]))?)?)?)?"
)
"""ISO 8601 and Postgres format; offsets are `+00`, `+05:30`, `+0530`, or to the second for old times."""
_ANY_DATE: Final = re.compile(r"[+-]?[0-9]{4,}-[0-9]{2}-[0-9]{2}.*?(?P<bc> BC)?", re.DOTALL)
_INFINITE: Final = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)


def column_bounds(column: Column, today: date) -> tuple[Bound, Bound]:
    """Return the inclusive bounds of a column in its own type; None means unbounded."""
    if column.type not in ("date", "timestamp", "milliseconds"):
        return column.min, column.max if column.max != "today" else None
    first, last = day_bounds(column, today)
    if column.type == "date":
        return first, last
    if column.type == "milliseconds":
        return _to_ms(first), _to_ms(last) + DAY_MS - 1
    return datetime.combine(first, time.min, UTC), datetime.combine(last, time.max, UTC)


def day_bounds(column: Column, today: date) -> tuple[date, date]:
    """Return the first and last day of a date or timestamp column."""
    high = today if column.max == "today" else column.max
    return column.min if isinstance(column.min, date) else date.min, high if isinstance(high, date) else date.max


def reject_reason(column: Column | None, text: str | None, today: date) -> tuple[str, str]:
    """Return code and reason; the reason follows the column name. `column` is None for the key."""
    if text is None:
        return "BLANK", "is blank; fill it in"
    if "\0" in text:
        return "NUL", "holds a NUL byte; take it out"
    if column is None:
        return _wrong_key(text)
    if text == COPY_NULL and column.type != "text":
        return "COPY_NULL", "is how COPY writes no value as text; write the file with (FORMAT csv), or leave it empty"
    if column.type in {"integer", "milliseconds", "number"}:
        return _wrong_number(column, text, today)
    return _wrong_word(column, text) or _out_of_range(column, text, today)


def _wrong_word(column: Column, text: str) -> tuple[str, str] | None:
    if column.type == "boolean":
        return "NOT_A_BOOLEAN", "is neither true nor false; write true or false"
    if column.type == "date" and not _parse_day(text):
        return "NOT_A_DATE", _outside_calendar(text) or _has_time_of_day(
            text
        ) or "is not a date; write it as 2000-02-29"
    if column.type == "timestamp" and not (ISO_TIMESTAMP.fullmatch(text) and _parse_day(text[:10])):
        return "NOT_A_TIMESTAMP", _outside_calendar(text) or "is not a timestamp; write it as 2000-02-29T12:30:00Z"
    return None


def _outside_calendar(text: str) -> str:
    """Return the reason for a date outside the years 1 to 9999, as Postgres or Parquet may hold; else empty."""
    if _INFINITE.fullmatch(text):
        return "is infinite; write a day of the years 1 to 9999, or leave it empty"
    found = _ANY_DATE.fullmatch(text)
    if found and found["bc"]:
        return "is before Christ; a table holds the years 1 to 9999"
    year = text.lstrip("+0").partition("-")[0]
    is_beyond = found and (text[0] == "-" or len(year) > len("9999"))
    return "is beyond the years 1 to 9999, which a table holds" if is_beyond else ""


def _has_time_of_day(text: str) -> str:
    is_moment = ISO_TIMESTAMP.fullmatch(text) and _parse_day(text[:10])
    return f"has a time of day; write the day alone, such as {text[:10]}" if is_moment else ""


def _wrong_key(text: str) -> tuple[str, str]:
    if len(text.encode()) > MAX_KEY_BYTES:
        return "KEY_TOO_LONG", f"has more than {MAX_KEY_BYTES} bytes; shorten it"
    return "KEY_UNSAFE", f"holds {unsafe_character(text)}; take it out"


def _wrong_number(column: Column, text: str, today: date) -> tuple[str, str]:
    is_time = column.type == "milliseconds"
    if is_time and (day := _parse_day(text)):
        return "NOT_A_NUMBER", f"is a date; write it as UTC milliseconds, {_to_ms(day)}"
    if not is_number(text):
        hint = "write UTC milliseconds, such as 951782400000" if is_time else "write digits only, such as 42"
        infinite = "is infinite; leave it empty, or write a finite number"
        return "NOT_A_NUMBER", infinite if _INFINITE.fullmatch(text) else f"is not a number; {hint}"
    if column.type == "number":
        return _out_of_range(column, text, today)
    value = parse_whole(text)
    if value is None:
        return "NOT_WHOLE", "is not a whole number; write it without a fraction"
    return (_looks_like_seconds(column, value, today) if is_time else None) or _out_of_range(column, text, today)


def _looks_like_seconds(column: Column, value: int, today: date) -> tuple[str, str] | None:
    """Detect seconds: the value is out of range as milliseconds, but in range as seconds."""
    low, high = column_bounds(column, today)
    if isinstance(low, int) and isinstance(high, int) and low <= value * 1000 <= high:
        return "SECONDS", f"looks like seconds; write milliseconds, {value * 1000}"
    return None


def _out_of_range(column: Column, text: str, today: date) -> tuple[str, str]:
    low, high = column_bounds(column, today)
    if column.type == "milliseconds":
        low, high = day_bounds(column, today)
        text = _format_day(parse_whole(text) or 0) or "beyond the calendar"
    subject = f"is {printable(text)}" if column.type != "text" else f"has {len(text)} characters"
    span = " ".join(
        f"{word} {_format_bound(bound)}" for word, bound in (("from", low), ("to", high)) if bound is not None
    )
    return "OUT_OF_RANGE", f"{subject}; it may be {span or 'no larger than a table holds'}"


def _format_bound(bound: object) -> str:
    return bound.strftime("%Y-%m-%d") if isinstance(bound, datetime) else str(bound)


def _parse_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if ISO_DAY.fullmatch(text) else None
    except ValueError:
        return None


def _format_day(milliseconds: int) -> str:
    try:
        return str(_EPOCH + timedelta(days=milliseconds // DAY_MS))
    except OverflowError:
        return ""


def _to_ms(day: date) -> int:
    return (day - _EPOCH).days * DAY_MS
