"""Detection of image type and size."""

import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.etl.core.images import HEAD_BYTES, MAX_READS, READ_BYTES, ImageProbe, probe_image
from services.etl.core.values import ImageInfo


def png(width, height):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))


def segment(marker, payload):
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def jpeg(width, height, *before):
    frame = segment(0xC0, struct.pack(">BHHB", 8, height, width, 3) + bytes(9))
    return b"\xff\xd8" + b"".join(before) + frame + segment(0xDA, bytes(10)) + bytes(100)


def turned(orientation):
    entry = struct.pack(">HHLHH", 0x0112, 3, 1, orientation, 0)
    return segment(0xE1, b"Exif\0\0MM\0*" + struct.pack(">LH", 8, 1) + entry + bytes(4))


def gif(width, height):
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)


def webp(kind, payload):
    return b"RIFF" + struct.pack("<I", len(payload) + 12) + b"WEBP" + kind + struct.pack("<I", len(payload)) + payload


def lossy(width, height, scale=0):
    return webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width | scale << 14, height | scale << 14))


def lossless(width, height):
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14))


def extended(width, height):
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", bytes(4) + sides)


IHDR = struct.pack(">IIBBBBB", 640, 480, 8, 2, 0, 0, 0)


def exif(orientation):
    return b"MM\0*" + struct.pack(">LH", 8, 1) + struct.pack(">HHLHH", 0x0112, 3, 1, orientation, 0) + bytes(4)


def chunked_png(*chunks):
    packed = (struct.pack(">I", len(body)) + kind.encode() + body + bytes(4) for kind, body in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def vp8x(flags):
    return b"VP8X", bytes([flags, 0, 0, 0]) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")


def riff(*chunks):
    packed = (kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for kind, body in chunks)
    body = b"WEBP" + b"".join(packed)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(width, height):
    return b"BM" + bytes(8) + struct.pack("<IIii", 54, 40, width, height) + bytes(28)


def tiff(order, tags, at=8):
    entries = b"".join(
        struct.pack(f"{order}HHL", tag, 3, 1) + struct.pack(f"{order}HH", n, 0) for tag, n in tags.items()
    )
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return (
        magic + struct.pack(f"{order}L", at) + bytes(at - 8) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    )


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def heif(brand, turns=0, before=0):
    """Return a HEIF file with a thumbnail (item 1) and the primary image (item 2)."""
    small, large = (box(b"ispe", bytes(4), struct.pack(">II", *size)) for size in ((64, 48), (640, 480)))
    of_items = struct.pack(">IHBB", 2, 1, 1, 0x81) + struct.pack(">HBBB", 2, 2, 0x82, 3)
    properties = box(
        b"iprp", box(b"ipco", small, large, box(b"irot", bytes([turns]))), box(b"ipma", bytes(4), of_items)
    )
    meta = box(b"meta", bytes(4), box(b"hdlr", bytes(24)), box(b"pitm", bytes(4), struct.pack(">H", 2)), properties)
    return box(b"ftyp", brand, bytes(4), b"miaf") + (box(b"free", bytes(before)) if before else b"") + meta


APP = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
BIG = segment(0xE2, bytes(60_000))


@pytest.mark.parametrize(
    ("head", "picture"),
    [
        (png(640, 480), ImageInfo("image/png", 640, 480)),
        (jpeg(640, 480), ImageInfo("image/jpeg", 640, 480)),
        (jpeg(640, 480, APP, turned(1)), ImageInfo("image/jpeg", 640, 480)),
        (jpeg(640, 480, APP, turned(6)), ImageInfo("image/jpeg", 480, 640)),
        (jpeg(640, 480, APP, BIG, BIG), ImageInfo("image/jpeg", 640, 480)),
        (gif(640, 480), ImageInfo("image/gif", 640, 480)),
        (gif(40_000, 65_535), ImageInfo("image/gif", 40_000, 65_535)),
        (lossy(640, 480), ImageInfo("image/webp", 640, 480)),
        (lossy(640, 480, scale=3), ImageInfo("image/webp", 640, 480)),
        (lossless(640, 480), ImageInfo("image/webp", 640, 480)),
        (extended(640, 480), ImageInfo("image/webp", 640, 480)),
    ],
)
def test_image_type_and_displayed_size_are_detected(head, picture):
    assert probe_image(head) == picture


def parts_of(body):
    """Return the reads of a probe, and its result."""
    probe, parts = ImageProbe(), []
    while probe.need:
        at, count = probe.need
        parts.append((at, min(count, max(len(body) - at, 0))))
        probe.feed(body[at : at + count])
    return parts, probe.image


@pytest.mark.parametrize("segments", [1, 20, 200])
def test_jpeg_size_after_megabytes_is_found_by_segment_lengths(segments):
    extended_xmp = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000))
    parts, picture = parts_of(jpeg(640, 480, APP, turned(6), *[extended_xmp] * segments))
    assert picture == ImageInfo("image/jpeg", 480, 640)
    assert sum(count for _, count in parts) <= HEAD_BYTES + segments * READ_BYTES


def test_jpeg_without_frame_has_no_size_after_bounded_reads():
    endless = b"\xff\xd8" + segment(0xE2, bytes(60_000)) * 400
    parts, picture = parts_of(endless)
    assert picture == ImageInfo("image/jpeg", None, None)
    assert len(parts) <= MAX_READS


@pytest.mark.parametrize(
    ("body", "picture"),
    [
        (chunked_png(("CgBI", b"\x50\0\x20\x02"), ("IHDR", IHDR)), ImageInfo("image/png", 640, 480)),
        (chunked_png(("IHDR", IHDR), ("acTL", bytes(8)), ("IDAT", b"")), ImageInfo("image/png", 640, 480)),
        (chunked_png(("IHDR", IHDR), ("eXIf", exif(6)), ("IDAT", b"")), ImageInfo("image/png", 480, 640)),
        (chunked_png(("IHDR", IHDR), ("iCCP", bytes(300_000)), ("eXIf", exif(8))), ImageInfo("image/png", 480, 640)),
        (chunked_png(("IHDR", IHDR), ("IDAT", b""), ("eXIf", exif(6))), ImageInfo("image/png", 640, 480)),
        (riff(vp8x(0), (b"VP8 ", bytes(9))), ImageInfo("image/webp", 640, 480)),
        (riff(vp8x(8), (b"VP8 ", bytes(9)), (b"EXIF", exif(6))), ImageInfo("image/webp", 480, 640)),
        (riff(vp8x(8), (b"VP8L", bytes(900_001)), (b"EXIF", b"Exif\0\0" + exif(5))), ImageInfo("image/webp", 480, 640)),
        (riff(vp8x(8), (b"VP8 ", bytes(9)), (b"EXIF", exif(3))), ImageInfo("image/webp", 640, 480)),
        (riff(vp8x(10), *[(b"ANMF", bytes(70_000))] * 50, (b"EXIF", exif(7))), ImageInfo("image/webp", 480, 640)),
        (riff(vp8x(8), (b"VP8 ", bytes(9))), ImageInfo("image/webp", 640, 480)),
        (bmp(640, 480), ImageInfo("image/bmp", 640, 480)),
        (bmp(640, -480), ImageInfo("image/bmp", 640, 480)),
        (b"BM" + bytes(12) + struct.pack("<IHH", 12, 640, 480), ImageInfo("image/bmp", 640, 480)),
        (tiff("<", {256: 640, 257: 480}), ImageInfo("image/tiff", 640, 480)),
        (tiff(">", {256: 640, 257: 480, 274: 6}), ImageInfo("image/tiff", 480, 640)),
        (tiff("<", {256: 640, 257: 480}, at=3_000_000), ImageInfo("image/tiff", 640, 480)),
        (heif(b"heic"), ImageInfo("image/heic", 640, 480)),
        (heif(b"heic", turns=1), ImageInfo("image/heic", 480, 640)),
        (heif(b"avif", turns=2), ImageInfo("image/avif", 640, 480)),
        (heif(b"mif1", before=500_000), ImageInfo("image/heif", 640, 480)),
    ],
)
def test_displayed_size_is_found_in_every_format(body, picture):
    parts, found = parts_of(body)
    assert found == picture
    assert sum(count for _, count in parts) <= HEAD_BYTES + len(parts) * READ_BYTES


@pytest.mark.parametrize(
    ("head", "content_type"),
    [
        (png(0, 0), "image/png"),
        (png(640, 480)[:20], "image/png"),
        (gif(0, 9), "image/gif"),
        (gif(9, 9)[:8], "image/gif"),
        (lossy(640, 480)[:28], "image/webp"),
        (webp(b"JUNK", bytes(30)), "image/webp"),
        (jpeg(0, 0), "image/jpeg"),
        (b"\xff\xd8\xff" + bytes(100), "image/jpeg"),
        (b"II*\0" + bytes(60), "image/tiff"),
        (heif(b"avif")[:60], "image/avif"),
    ],
)
def test_known_type_with_unknown_size_is_an_image_without_size(head, content_type):
    assert probe_image(head) == ImageInfo(content_type, None, None)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff\xd8",
        b"first_name,last_name,birthts\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><svg>&b;</svg>",
        b"BM" + bytes(60),
        b"BMW,Audi\n1,2\n",
        b"http://127.0.0.1/x.png",
        b"\0\0\0\x18ftypmp42" + bytes(60),
    ],
)
def test_unknown_type_is_no_image(head):
    assert probe_image(head) is None


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\xff\x01", b"\xff\xe0\0\x02", b"\xff\xd0"])
def test_hostile_images_are_probed_fast(filler):
    begin = time.process_time()
    probe_image(b"\xff\xd8\xff" + filler * ((1 << 20) // len(filler)))
    assert time.process_time() - begin < 3


@given(
    st.sampled_from(
        (
            png(9, 9),
            jpeg(9, 9, APP, turned(6)),
            gif(9, 9),
            lossy(9, 9),
            lossless(9, 9),
            extended(9, 9),
            bmp(9, 9),
            tiff(">", {256: 9, 257: 9, 274: 6}),
            heif(b"heic", turns=1),
            riff(vp8x(8), (b"EXIF", exif(6))),
        )
    ),
    st.integers(0, 200),
    st.binary(max_size=40),
)
def test_probe_never_raises(head, length, tail):
    picture = probe_image(head[:length] + tail)
    assert picture is None or picture.width is picture.height is None or min(picture.width, picture.height) > 0
