"""Rejected rows of datasets, by file and row, from the view `api.rejects`."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from services.ingress.adapters.selects import Select
from services.ingress.core.datasets import Dataset
from shared.errors import Rejected

_COLUMNS: Final = ("bucket", "key", "row", "column", "value", "code", "reason", "rejected_at")
_ORDER: Final = ("bucket", "key", "row", "column", "code")
_TYPES: Final = ("text", "text", "bigint", "text", "text")
_ORDER_BY: Final = ", ".join(f'stored."{name}"' for name in _ORDER)


def page(dataset: Dataset, key: str, after: str, limit: int) -> Select:
    """Select one page of rejected rows after a cursor, plus one row that shows whether more follow.

    Raises Rejected: BAD_CURSOR.
    """
    made = _of(dataset, key, ", ".join(f'"{name}"' for name in _COLUMNS))
    if after:
        positions = ", ".join(f"{{}}::{kind}" for kind in _TYPES)
        made.add_condition(f"({_ORDER_BY}) > ({positions})", *_parse_cursor(after))
    made.text += f" order by {_ORDER_BY} limit {limit + 1}"
    return made


def all_rejects(dataset: Dataset, key: str) -> Select:
    """Select all rejected rows, escaped so that no spreadsheet runs a cell as a formula."""
    texts = {"bucket", "key", "column", "value", "reason"}
    columns = ", ".join(f'api.cell("{name}") as "{name}"' if name in texts else f'"{name}"' for name in _COLUMNS)
    made = _of(dataset, key, columns)
    made.text += f" order by {_ORDER_BY}"
    return made


def cursor_of(row: Mapping[str, Any]) -> str:
    """Return the cursor of a row."""
    return base64.urlsafe_b64encode(json.dumps([row[name] for name in _ORDER]).encode()).decode().rstrip("=")


def _of(dataset: Dataset, key: str, columns: str) -> Select:
    made = Select(f"select {columns} from api.rejects as stored")  # noqa: S608 - fixed names
    made.add_condition("dataset = {}::text", dataset.name)
    if key:
        made.add_condition("key = {}::text", key)
    return made


def _parse_cursor(cursor: str) -> list[Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
        bucket, key, row, column, code = found
        positions = [bucket, key, int(row), column, code]
        is_good = all(isinstance(one, str) and "\x00" not in one for one in (bucket, key, column, code))
        if is_good and 0 <= positions[2] < 1 << 63:
            return positions
    except (ValueError, TypeError, RecursionError, binascii.Error):
        pass
    raise Rejected("BAD_CURSOR", "`after` is no place in this list: take it from the answer before, as it is")
