"""Escape text that a spreadsheet would run as a formula: prepend an apostrophe on export, remove it on import.

Text that starts with apostrophes before such a character is escaped too, so that the round trip is exact.
"""

import re
from typing import Final

import polars as pl

from services.etl.core.cleaning import BLANKS

_FORMULA_START: Final = "[=+@\\t\\r-]"
"""First characters of a formula (OWASP, CSV injection); `api.cell` has the same rule in SQL."""
_NEEDS_ESCAPE: Final = f"^'*{_FORMULA_START}"
_ESCAPED: Final = f"^[{BLANKS}]*'('*{_FORMULA_START})"
_PATTERN: Final = re.compile(_ESCAPED)
_MAY_BE_ESCAPED: Final = re.compile(f"'{_FORMULA_START}".encode())


def escape_column(name: str) -> pl.Expr:
    """Escape a column of text as `api.cell` does."""
    column = pl.col(name)
    return pl.when(column.str.contains(_NEEDS_ESCAPE)).then(pl.lit("'") + column).otherwise(column).alias(name)


def unescape_column(column: pl.Expr) -> pl.Expr:
    """Undo `escape_column`, also after leading blanks."""
    return column.str.replace(_ESCAPED, "$1")


def unescape(text: str) -> str:
    """Undo the escape of one text, also after leading blanks."""
    return _PATTERN.sub(r"\1", text, count=1)


def may_hold_escapes(block: bytes) -> bool:
    """Return whether a block of cells may hold escaped text; a quick test."""
    return _MAY_BE_ESCAPED.search(block) is not None
