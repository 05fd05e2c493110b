"""Normalization shared by all formats: blanks, keys, column names, and numbers."""

import re
import unicodedata
from decimal import Decimal
from typing import Final

BLANKS: Final = (
    " \t\n\v\f\r\x85\xa0\u1680\u180e"
    + "".join(map(chr, range(0x2000, 0x200C)))
    + "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
"""Characters stripped from values, keys and names: white space, byte order marks and zero-width spaces.

Joiners (U+200C, U+200D) and direction marks stay, because they belong to the spelling of words.
"""
COPY_NULL: Final = r"\N"
"""NULL in tab-separated files of COPY, MySQL and Hive."""
_FIGURE: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,18})?")
_MAX_WHOLE_DIGITS: Final = 40
"""Integers with more digits are not expanded; 64 bits need 19."""
TOO_LARGE: Final = 1 << 127
"""Stands for integers with more than 40 digits."""


def trim(text: str) -> str:
    """Strip BLANKS from both ends."""
    return text.strip(BLANKS)


def is_blank(text: str) -> bool:
    """Return whether text is empty or consists of BLANKS."""
    return not text.strip(BLANKS)


def normalize_key(text: str) -> str:
    """Normalize a key or a column name: trimmed, in Unicode NFC."""
    text = text.strip(BLANKS)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def is_number(text: str) -> bool:
    """Return whether text is a finite decimal number such as `7`, `-7.50` or `1e3`; not `1_000` or `NaN`."""
    return _FIGURE.fullmatch(text) is not None


def is_nan(text: str) -> bool:
    """Return whether text is NaN, in any case and with any sign."""
    return text.lstrip("+-").lower() == "nan"


def parse_whole(text: str) -> int | None:
    """Parse an integer exactly: 7 for `7.00`, `7.` and `70e-1`; None if text is not an integer.

    Integers of more than 40 digits give TOO_LARGE or -TOO_LARGE.
    """
    if not is_number(text):
        return None
    value = Decimal(text)
    if value and value.adjusted() > _MAX_WHOLE_DIGITS:
        return -TOO_LARGE if value.is_signed() else TOO_LARGE
    return int(value) if value == value.to_integral_value() else None


def normalize_number_key(text: str) -> str:
    """Normalize a key that a typed format stores as a number: `1100` for 1100.0 and 1.1e3."""
    whole = parse_whole(text)
    if whole is not None and abs(whole) < TOO_LARGE:
        return str(whole)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text.lower() else text
