"""One form in all formats: what a blank is, how a key or a name is spelled, and what the text of a number is worth."""

import re
import unicodedata
from decimal import Decimal
from typing import Final

BLANKS: Final = (
    " \t\n\v\f\r\x85\xa0\u1680\u180e"
    + "".join(map(chr, range(0x2000, 0x200C)))
    + "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
"""What is taken off both ends of a value, a key or a name: white space, byte order marks, and spaces without width.

Joiners (U+200C, U+200D) and direction marks stay: at the end of a word they are spelling.
"""
COPY_NULL: Final = r"\N"
"""How the text format of COPY, MySQL and Hive write no value between tabs."""
_FIGURE: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,18})?")
_MAX_WHOLE_DIGITS: Final = 40
"""Figures of a whole number that may fit a table of 64 bits, by far."""
TOO_LARGE: Final = 1 << 127
"""Stands for whole numbers that are too large to be written out."""


def trim(text: str) -> str:
    """Take the blanks off both ends."""
    return text.strip(BLANKS)


def is_blank(text: str) -> bool:
    """Say whether there is nothing but blanks."""
    return not text.strip(BLANKS)


def normalize_key(text: str) -> str:
    """Return the one spelling of a key or a column's name: without blanks around it, composed (Unicode NFC)."""
    text = text.strip(BLANKS)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def is_number(text: str) -> bool:
    """Say whether text is a finite number in figures: `7`, `-7.50`, `1e3`; neither `1_000` nor `NaN`."""
    return _FIGURE.fullmatch(text) is not None


def is_nan(text: str) -> bool:
    """Say whether text is how programs write a number that is missing: NaN, in any case and with any sign."""
    return text.lstrip("+-").lower() == "nan"


def parse_whole(text: str) -> int | None:
    """Return the whole number that text is worth, exactly: 7 for `7.00`, `7.` and `70e-1`; None where it is none.

    Of one of more than 40 figures it is BEYOND or -BEYOND: too large for any table.
    """
    if not is_number(text):
        return None
    value = Decimal(text)
    if value and value.adjusted() > _MAX_WHOLE_DIGITS:
        return -TOO_LARGE if value.is_signed() else TOO_LARGE
    return int(value) if value == value.to_integral_value() else None


def normalize_number_key(text: str) -> str:
    """Return the one spelling of a key that a typed format holds as a number: `1100` for 1100.0 and 1.1e3."""
    whole = parse_whole(text)
    if whole is not None and abs(whole) < TOO_LARGE:
        return str(whole)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text.lower() else text
