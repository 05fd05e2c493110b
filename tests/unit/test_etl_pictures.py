"""What an image is, by its first bytes."""

import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.etl.core.pictures import picture_of
from services.etl.core.values import Picture


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


APP = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
BIG = segment(0xE2, bytes(60_000))


@pytest.mark.parametrize(
    ("head", "picture"),
    [
        (png(640, 480), Picture("image/png", 640, 480)),
        (jpeg(640, 480), Picture("image/jpeg", 640, 480)),
        (jpeg(640, 480, APP, turned(1)), Picture("image/jpeg", 640, 480)),
        (jpeg(640, 480, APP, turned(6)), Picture("image/jpeg", 480, 640)),
        (jpeg(640, 480, APP, BIG, BIG), Picture("image/jpeg", 640, 480)),
        (gif(640, 480), Picture("image/gif", 640, 480)),
        (gif(40_000, 65_535), Picture("image/gif", 40_000, 65_535)),
        (lossy(640, 480), Picture("image/webp", 640, 480)),
        (lossy(640, 480, scale=3), Picture("image/webp", 640, 480)),
        (lossless(640, 480), Picture("image/webp", 640, 480)),
        (extended(640, 480), Picture("image/webp", 640, 480)),
    ],
)
def test_an_image_tells_its_type_and_the_size_it_is_shown_in(head, picture):
    assert picture_of(head) == picture


def test_the_first_bytes_of_a_jpeg_may_not_be_enough_and_more_of_them_are():
    whole = jpeg(640, 480, APP, BIG, BIG)
    assert picture_of(whole[: 1 << 15]) is None
    # the frame has been told, the scan has not begun
    assert picture_of(whole[: whole.index(b"\xff\xda")]) == Picture("image/jpeg", 640, 480)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff\xd8",
        b"first_name,last_name,birthts\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><svg>&b;</svg>",
        b"BM" + bytes(60),
        b"II*\0" + bytes(60),
        b"http://127.0.0.1/x.png",
        png(0, 0),
        png(640, 480)[:20],
        gif(0, 9),
        gif(9, 9)[:8],
        lossy(640, 480)[:28],
        webp(b"JUNK", bytes(30)),
        jpeg(0, 0),
        b"\xff\xd8\xff" + bytes(100),
    ],
)
def test_what_is_no_image_or_cannot_be_told_is_none(head):
    assert picture_of(head) is None


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\xff\x01", b"\xff\xe0\0\x02", b"\xff\xd0"])
def test_hostile_bytes_take_no_time(filler):
    begin = time.process_time()
    picture_of(b"\xff\xd8\xff" + filler * ((1 << 20) // len(filler)))
    assert time.process_time() - begin < 3


@given(
    st.sampled_from((png(9, 9), jpeg(9, 9, APP, turned(6)), gif(9, 9), lossy(9, 9), lossless(9, 9), extended(9, 9))),
    st.integers(0, 200),
    st.binary(max_size=40),
)
def test_no_bytes_raise(head, length, tail):
    picture = picture_of(head[:length] + tail)
    assert picture is None or (picture.width and picture.width > 0 and picture.height and picture.height > 0)
