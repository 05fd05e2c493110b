"""What an image is, by its first bytes; nothing is decoded."""

from io import BytesIO
from typing import Final

import imagesize

from services.etl.core.values import Picture

_SIGNS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_LOSSY_WEBP: Final = b"VP8 "
_UNKNOWN: Final = (-1, -1)


def picture_of(head: bytes) -> Picture | None:
    """Tell an image's type and its size as it is shown; None: no image, or not to be told from these bytes.

    The type is that of the content, whatever the name says. Only the four types that are known here are looked into.
    """
    content_type = _type_of(head)
    if not content_type:
        return None
    size = _size_of(head)
    if size == _UNKNOWN:
        return None
    width, height = size
    if content_type == "image/gif":
        width, height = width & 0xFFFF, height & 0xFFFF  # imagesize reads them as signed
    elif head[12:16] == _LOSSY_WEBP:
        width, height = width & 0x3FFF, height & 0x3FFF  # the upper bits are a scale
    return Picture(content_type, width, height) if width > 0 and height > 0 else None


def _type_of(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((content_type for sign, content_type in _SIGNS if head.startswith(sign)), "")


def _size_of(head: bytes) -> tuple[int, int]:
    size: tuple[int, int] = imagesize.get(BytesIO(head))
    # its turn is told before its size; who looks for one in vain may come to the end of these bytes
    if size == _UNKNOWN:
        size = imagesize.get(BytesIO(head), exif_rotation=False)
    return size
