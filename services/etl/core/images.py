"""Detect type and displayed size of an image from its bytes, without decoding it."""

from collections.abc import Callable, Generator, Mapping
from typing import Final

from services.etl.core.heif import heif_size, heif_type
from services.etl.core.orientation import Size, SizeReader, displayed_size, is_rotated, tiff_size
from services.etl.core.values import ImageInfo

IMAGE_TYPES: Final = "PNG, JPEG, WebP, GIF, BMP, TIFF, HEIC or AVIF"
HEAD_BYTES: Final = 32 << 10
"""Enough for type and size of nearly every image."""
READ_BYTES: Final = 8 << 10
"""Minimum bytes of each further read."""
MAX_READS: Final = 256
"""Enough for a JPEG with 16 MB of profiles, thumbnails and depth maps before its size."""
_MAX_STEPS: Final = 20_000
_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_EXIF_BYTES: Final = 4096
"""Bytes of Exif data that include the orientation."""

_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0\x08\0\0\0", "image/tiff"),
    (b"MM\0+\0\x08\0\0", "image/tiff"),
)


class ImageProbe:
    """Detects type and size from a few reads: call `feed` with the bytes of `need` until it is None.

    `need` is offset and count; fewer bytes mean the end of the object. Afterwards `image` is the result: None if it is
    not an image of a known type; without width and height if the size is unknown.
    """

    def __init__(self) -> None:
        self.image: ImageInfo | None = None
        self.need: tuple[int, int] | None = (0, HEAD_BYTES)
        self._steps: SizeReader | None = None
        self._request = (0, 0)
        self._reads_left, self._steps_left = MAX_READS, _MAX_STEPS

    def feed(self, data: bytes) -> None:
        """Take the bytes of `need`."""
        assert self.need is not None, "nothing more was needed"  # noqa: S101
        (at, count), self.need = self.need, None
        self._reads_left -= 1
        try:
            if self._steps is None:
                if not (content_type := image_type(data)):
                    return
                self.image = ImageInfo(content_type, None, None)
                self._steps = _SIZE_READERS[content_type]()
                self._request = next(self._steps)
            self._advance(self._steps, at, data, is_last=len(data) < count)
        except StopIteration as end:
            self._finish(end.value)

    def _advance(self, steps: SizeReader, at: int, data: bytes, *, is_last: bool) -> None:
        """Advance the size reader as far as these bytes allow."""
        while self._steps_left:
            start, count = self._request[0] - at, self._request[1]
            if start < 0 or (start + count > len(data) and not is_last):
                if self._reads_left:
                    self.need = (self._request[0], max(count, READ_BYTES))
                return
            self._steps_left -= 1
            self._request = steps.send(data[start : start + count])

    def _finish(self, size: Size | None) -> None:
        if self.image and size and min(size) > 0:
            self.image = ImageInfo(self.image.content_type, *size)


def probe_image(body: bytes) -> ImageInfo | None:
    """Detect type and size of a whole image; None if it is not of a known type."""
    probe = ImageProbe()
    while probe.need:
        at, count = probe.need
        probe.feed(body[at : at + count])
    return probe.image


def image_type(head: bytes) -> str:
    """Return the content type by the first bytes; empty if unknown."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    # text may start with BM too, so check the reserved zeros and the header size
    if head[:2] == b"BM" and head[6:10] == bytes(4) and _little(head[14:18]) in _BMP_HEADERS:
        return "image/bmp"
    return next((content_type for sign, content_type in _SIGNATURES if head.startswith(sign)), "") or heif_type(head)


def _jpeg_size() -> SizeReader:
    """Skip segments by their length up to the frame header (ITU T.81, B.1.1.4)."""
    at, turned = 2, False
    while len(head := (yield at, 4)) == 4 and head[0] == 0xFF:  # noqa: PLR2004 - a marker and a length
        marker, length = head[1], int.from_bytes(head[2:], "big")
        if marker == 0xFF:  # noqa: PLR2004 - fills
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # noqa: PLR2004 - markers without a length
            at += 2
        elif marker in {0xD9, 0xDA} or length < 2:  # noqa: PLR2004 - the scan begins, or it ends
            return None
        elif 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # noqa: PLR2004 - frames, but three tables
            frame = yield at + 5, 4
            return displayed_size((_big(frame[2:]), _big(frame[:2])), is_rotated=turned)
        else:
            if marker == 0xE1:  # noqa: PLR2004 - APP1
                exif = yield at + 4, min(length - 2, _EXIF_BYTES)
                turned = turned or (exif.startswith(b"Exif\0") and is_rotated(exif))
            at += 2 + length
    return None


def _png_size() -> SizeReader:
    """Read IHDR, also after the CgBI chunk of Apple's tools, and the orientation in eXIf before the pixels."""
    size: Size | None = None
    at, turned = 8, False
    while len(head := (yield at, 8)) == 8:  # noqa: PLR2004 - a length and a type
        length, kind = _big(head[:4]), head[4:]
        if kind in {b"IDAT", b"IEND"}:
            break
        if kind == b"IHDR":
            sides = yield at + 8, 8
            size = (_big(sides[:4]), _big(sides[4:]))
        elif kind == b"eXIf":
            turned = is_rotated((yield at + 8, min(length, _EXIF_BYTES)))
        at += 12 + length
    return displayed_size(size, is_rotated=turned) if size else None


def _webp_size() -> SizeReader:
    """Read the size from the first chunk, and the orientation from EXIF after the pixels."""
    head = yield 12, 18
    kind, data = head[:4], head[8:]
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        return _little(data[6:8]) & 0x3FFF, _little(data[8:10]) & 0x3FFF  # the upper bits are the scale
    if kind == b"VP8L" and data[:1] == b"\x2f":
        sides = _little(data[1:5])
        return (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    if kind != b"VP8X" or len(data) < 10:  # noqa: PLR2004 - flags and two sides
        return None
    size = _little(data[4:7]) + 1, _little(data[7:10]) + 1
    return displayed_size(size, is_rotated=(yield from _is_webp_rotated()) if data[0] & 0x08 else False)


def _is_webp_rotated() -> Generator[tuple[int, int], bytes, bool]:
    at = 12
    while len(head := (yield at, 8)) == 8:  # noqa: PLR2004 - a type and a length
        length = _little(head[4:])
        if head[:4] == b"EXIF":
            return is_rotated((yield at + 8, min(length, _EXIF_BYTES)))
        at += 8 + length + length % 2
    return False


def _gif_size() -> SizeReader:
    sides = yield 6, 4
    return (_little(sides[:2]), _little(sides[2:])) if len(sides) == 4 else None  # noqa: PLR2004 - two sides


def _bmp_size() -> SizeReader:
    header = yield 14, 12
    if _little(header[:4]) == 12:  # noqa: PLR2004 - the header of OS/2
        return _little(header[4:6]), _little(header[6:8])
    # a negative height means rows from top to bottom
    return _little(header[4:8]), abs(int.from_bytes(header[8:12], "little", signed=True))


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


_SIZE_READERS: Final[Mapping[str, Callable[[], SizeReader]]] = {
    "image/png": _png_size,
    "image/jpeg": _jpeg_size,
    "image/webp": _webp_size,
    "image/gif": _gif_size,
    "image/bmp": _bmp_size,
    "image/tiff": tiff_size,
    "image/heic": heif_size,
    "image/heif": heif_size,
    "image/avif": heif_size,
}
