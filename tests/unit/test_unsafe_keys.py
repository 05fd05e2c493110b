"""One idea of a key that deceives, for HTTP, the console, the bucket, records and rows."""

from datetime import date

import pytest

from services.cli.core.address import Address, require_valid_key
from services.etl.core.checking import check, frame_of
from services.etl.core.datasets import Dataset
from services.etl.core.values import ParsedRows
from services.ingress.core.names import safe_key
from shared import field_rules
from shared.errors import Rejected
from shared.text import is_unsafe, unsafe_character

DATASET = Dataset.model_validate({"name": "d", "bucket": "src-data", "key": "id", "columns": {"x": {"type": "text"}}})


def http(key):
    safe_key(key)


def console(key):
    require_valid_key(Address("inbox", key))


def bucket(key):
    field_rules.key(key)


def row(key):
    frame = frame_of([(0, ParsedRows([1], [(key, "x")]))], DATASET)
    if rejects := check(frame, DATASET, today=date(2026, 1, 1)).rejects:
        raise Rejected(rejects[0].code, rejects[0].reason)


ENTRY_POINTS = [http, console, bucket, row]
ALLOWED = {
    "Persian, with a joiner that parts": "می\u200cخواهم.csv",  # noqa: RUF001 - its letters
    "Hindi, with one that joins": "क\u094d\u200dष.csv",
    "Hebrew, with a mark of its direction": "א\u200f(1).csv",
    "Arabic, with a mark of letters": "\u0661\u061c-2.csv",
    "a mark of Latin letters": "א\u200eA.csv",
    "a family": "👨\u200d👩\u200d👧.png",
    "a flag in tags": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f.png",
    "a soft hyphen": "a\u00adb.txt",
}
REFUSED = [
    "\x00",
    "\t",
    "\n",
    "\x1b",
    "\x7f",
    "\x85",
    "\x9b",
    *map(chr, [*range(0x2028, 0x202F), *range(0x2066, 0x206A)]),
]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("kind", ALLOWED)
def test_a_name_that_its_language_needs_comes_in_everywhere(entry_point, kind):
    entry_point(ALLOWED[kind])


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("char", REFUSED, ids=ascii)
def test_a_name_that_deceives_comes_in_nowhere(entry_point, char):
    with pytest.raises((Rejected, ValueError)) as refused:
        entry_point(f"a{char}b")
    assert str(refused.value).isprintable()
    is_refused_for_nul = entry_point is row and char == "\x00"  # which no cell may hold
    assert is_refused_for_nul or f"holds U+{ord(char):04X} " in str(refused.value)


def test_lone_surrogate_is_unsafe():
    assert is_unsafe("a\udc80")
    assert unsafe_character("a\u202eb") == "U+202E RIGHT-TO-LEFT OVERRIDE"
    assert unsafe_character("a\x1bb") == "U+001B control character"
    assert unsafe_character("ab") == ""
