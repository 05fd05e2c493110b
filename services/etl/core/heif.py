"""HEIC and AVIF: find the primary image of a file and its size."""

from collections.abc import Iterator
from typing import Final

from services.etl.core.orientation import Size, SizeReader, displayed_size

_TYPES: Final = (
    (frozenset({b"avif", b"avis"}), "image/avif"),
    (frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}), "image/heic"),
    (frozenset({b"mif1", b"msf1"}), "image/heif"),
)
_META_BYTES: Final = 1 << 20
_BRAND_BYTES: Final = 256
_LONG: Final = 1
_TO_THE_END: Final = 0


def heif_type(head: bytes) -> str:
    """Return the type by the brands of the first box; empty for other files."""
    if head[4:8] != b"ftyp":
        return ""
    end = min(int.from_bytes(head[:4], "big"), _BRAND_BYTES)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}
    return next((content_type for names, content_type in _TYPES if names & brands), "")


def heif_size() -> SizeReader:
    """Find the box `meta`, and in it the size of the primary image (ISO/IEC 23008-12)."""
    at = 0
    while len(head := (yield at, 16)) >= 8:  # noqa: PLR2004 - a size and a type
        size, begin = int.from_bytes(head[:4], "big"), 8
        if size == _LONG:
            size, begin = int.from_bytes(head[8:16], "big"), 16
        if head[4:8] == b"meta":
            count = _META_BYTES if size == _TO_THE_END else min(size - begin, _META_BYTES)
            return _primary_size((yield at + begin, count)) if count > 0 else None
        if size < begin:
            return None
        at += size
    return None


def _primary_size(meta: bytes) -> Size | None:
    boxes = dict(_boxes(meta[4:]))
    pitm, properties = boxes.get(b"pitm", b""), dict(_boxes(boxes.get(b"iprp", b"")))
    item = int.from_bytes(pitm[4:6] if pitm[:1] == b"\0" else pitm[4:8], "big")
    all_properties = list(_boxes(properties.get(b"ipco", b"")))
    properties_of_item = [
        all_properties[index - 1]
        for index in _associated(properties.get(b"ipma", b""), item)
        if 0 < index <= len(all_properties)
    ]
    size = next((_pair(body) for kind, body in properties_of_item if kind == b"ispe"), None)
    quarters = next((body[0] & 3 for kind, body in properties_of_item if kind == b"irot" and body), 0)
    return displayed_size(size, is_rotated=bool(quarters % 2)) if size else None


def _pair(ispe: bytes) -> Size:
    return int.from_bytes(ispe[4:8], "big"), int.from_bytes(ispe[8:12], "big")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of each box; stop at a truncated or damaged one."""
    at = 0
    while len(data) - at >= 8:  # noqa: PLR2004 - a size and a type
        size = int.from_bytes(data[at : at + 4], "big") or len(data) - at
        if size < 8:  # noqa: PLR2004 - likewise
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def _associated(ipma: bytes, item: int) -> list[int]:
    """Return the 1-based property indexes of an item."""
    id_bytes, number_bytes = (2 if ipma[:1] == b"\0" else 4), (2 if ipma[3:4] and ipma[3] & 1 else 1)
    at, count = 8, int.from_bytes(ipma[4:8], "big")
    for _ in range(count):
        if at + id_bytes >= len(ipma):
            return []
        boxes, property_count = int.from_bytes(ipma[at : at + id_bytes], "big"), ipma[at + id_bytes]
        at += id_bytes + 1
        end = at + property_count * number_bytes
        if boxes == item:
            mask = (1 << (8 * number_bytes - 1)) - 1
            return [int.from_bytes(ipma[i : i + number_bytes], "big") & mask for i in range(at, end, number_bytes)]
        at = end
    return []
