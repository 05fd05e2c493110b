"""Image orientation from Exif, and TIFF, whose structure Exif uses."""

from collections.abc import Generator, Mapping
from typing import Final, Literal

Size = tuple[int, int]
"""Width and height in pixels."""
SizeReader = Generator[tuple[int, int], bytes, Size | None]
"""Size reader of one format: yields offset and count of the bytes it needs, receives them (fewer at the end of the
object), and returns the size, or None if it is unknown.
"""

_WIDTH: Final = 0x0100
_HEIGHT: Final = 0x0101
_ORIENTATION: Final = 0x0112
_QUARTER_TURNS: Final = frozenset({5, 6, 7, 8})
_NUMBERS: Final[Mapping[int, int]] = {1: 1, 3: 2, 4: 4, 16: 8}
"""Bytes per value by TIFF type: BYTE, SHORT, LONG and LONG8."""
_MAX_TAGS: Final = 1000
_EXIF: Final = b"Exif\0\0"

Order = Literal["big", "little"]


def displayed_size(size: Size, *, is_rotated: bool) -> Size:
    """Return the size as displayed: width and height swapped if rotated."""
    return (size[1], size[0]) if is_rotated else size


def is_rotated(exif: bytes) -> bool:
    """Return whether Exif data rotates an image by 90 or 270 degrees."""
    tiff = exif.removeprefix(_EXIF)
    if (order := _order(tiff)) is None:
        return False
    at = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[at : at + 2], order)
    return _tags(tiff[at + 2 :], count, order, 4).get(_ORIENTATION) in _QUARTER_TURNS


def tiff_size() -> SizeReader:
    """Read the size from the first directory of a TIFF or BigTIFF."""
    head = yield 0, 16
    if (order := _order(head)) is None:
        return None
    word = 8 if int.from_bytes(head[2:4], order) == 43 else 4  # noqa: PLR2004 - BigTIFF's number
    at = int.from_bytes(head[word : 2 * word], order)
    count_bytes = 8 if word == 8 else 2  # noqa: PLR2004 - bytes
    count = min(int.from_bytes((yield at, count_bytes), order), _MAX_TAGS)
    tags = _tags((yield at + count_bytes, count * (4 + 2 * word)), count, order, word)
    if _WIDTH not in tags or _HEIGHT not in tags:
        return None
    return displayed_size((tags[_WIDTH], tags[_HEIGHT]), is_rotated=tags.get(_ORIENTATION) in _QUARTER_TURNS)


def _order(tiff: bytes) -> Order | None:
    orders: dict[bytes, Order] = {b"II": "little", b"MM": "big"}
    return orders.get(tiff[:2])


def _tags(directory: bytes, count: int, order: Order, word: int) -> dict[int, int]:
    """Return the integer values of a directory by tag; `word` is the offset size in bytes."""
    step = 4 + 2 * word
    values: dict[int, int] = {}
    for at in range(0, min(count, _MAX_TAGS) * step, step):
        entry = directory[at : at + step]
        size = _NUMBERS.get(int.from_bytes(entry[2:4], order))
        if len(entry) == step and size and size <= word:
            value = entry[4 + word : 4 + word + size]
            values[int.from_bytes(entry[:2], order)] = int.from_bytes(value, order)
    return values
