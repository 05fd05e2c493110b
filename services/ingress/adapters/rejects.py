"""Rows that are no rows of their table, by file and row, as `api.rejects` has them."""

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
_BY: Final = ", ".join(f'kept."{name}"' for name in _ORDER)


def page(dataset: Dataset, key: str, after: str, limit: int) -> Select:
    """Ask for rejected rows after a cursor, and for one more than there is room for.

    Raises Rejected: BAD_CURSOR.
    """
    made = _of(dataset, key, ", ".join(f'"{name}"' for name in _COLUMNS))
    if after:
        places = ", ".join(f"{{}}::{kind}" for kind in _TYPES)
        made.also(f"({_BY}) > ({places})", *_places_in(after))
    made.text += f" order by {_BY} limit {limit + 1}"
    return made


def as_cells(dataset: Dataset, key: str) -> Select:
    """Ask for all of them; no spreadsheet runs what a cell says."""
    texts = {"bucket", "key", "column", "value", "reason"}
    told = ", ".join(f'api.cell("{name}") as "{name}"' if name in texts else f'"{name}"' for name in _COLUMNS)
    made = _of(dataset, key, told)
    made.text += f" order by {_BY}"
    return made


def cursor_of(row: Mapping[str, Any]) -> str:
    """Return what stands for a row's place."""
    return base64.urlsafe_b64encode(json.dumps([row[name] for name in _ORDER]).encode()).decode().rstrip("=")


def _of(dataset: Dataset, key: str, told: str) -> Select:
    made = Select(f"select {told} from api.rejects as kept")  # noqa: S608 - names of ours
    made.also("dataset = {}::text", dataset.name)
    if key:
        made.also("key = {}::text", key)
    return made


def _places_in(cursor: str) -> list[Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
        bucket, key, row, column, code = found
        places = [bucket, key, int(row), column, code]
        is_good = all(isinstance(one, str) and "\x00" not in one for one in (bucket, key, column, code))
        if is_good and 0 <= places[2] < 1 << 63:
            return places
    except (ValueError, TypeError, RecursionError, binascii.Error):
        pass
    raise Rejected("BAD_CURSOR", "`after` is no place in this list: take it from the answer before, as it is")
