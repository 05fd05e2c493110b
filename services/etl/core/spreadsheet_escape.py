"""The apostrophe before a text that a spreadsheet would run: written into published CSV, taken off on the way in.

Texts that begin with apostrophes and then so are escaped as well, so that each text is read as it was before.
"""

import re
from typing import Final

import polars as pl

from services.etl.core.cleaning import BLANKS

_FORMULA_START: Final = "[=+@\\t\\r-]"
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection); `api.cell` says the same in SQL."""
_NEEDS_ESCAPE: Final = f"^'*{_FORMULA_START}"
_ESCAPED: Final = f"^[{BLANKS}]*'('*{_FORMULA_START})"
_PATTERN: Final = re.compile(_ESCAPED)
_MAY_BE_ESCAPED: Final = re.compile(f"'{_FORMULA_START}".encode())


def escape_column(name: str) -> pl.Expr:
    """Escape a column of text as `api.cell` does."""
    column = pl.col(name)
    return pl.when(column.str.contains(_NEEDS_ESCAPE)).then(pl.lit("'") + column).otherwise(column).alias(name)


def unescape_column(column: pl.Expr) -> pl.Expr:
    """Undo `escaped`, whatever blanks are before it."""
    return column.str.replace(_ESCAPED, "$1")


def unescape(text: str) -> str:
    """Undo what `escaped` adds to one text, whatever blanks are before it."""
    return _PATTERN.sub(r"\1", text, count=1)


def may_hold_escapes(block: bytes) -> bool:
    """Say whether a block of cells may hold an escaped text; most hold none."""
    return _MAY_BE_ESCAPED.search(block) is not None
