import hashlib

from hypothesis import given
from hypothesis import strategies as st

from services.cli.core.parts import MAX_OBJECT, MAX_PARTS, MIB, PART, max_in_flight, multipart_etag, part_size, split


@given(st.integers(0, MAX_OBJECT))
def test_no_file_needs_more_than_10000_parts(size):
    each = part_size(size)
    assert each >= PART
    assert each % MIB == 0
    assert -(-size // each) <= MAX_PARTS


@given(st.integers(0, 300), st.integers(1, 50))
def test_parts_cover_the_file_once_and_in_order(size, each):
    parts = list(split(size, each))
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [offset for part in parts for offset in range(part.start, part.start + part.size)] == list(range(size))


def test_memory_bounds_the_parts_in_flight():
    assert max_in_flight(8 * MIB, 8) == 8
    assert max_in_flight(8 * MIB, 100, memory=64 * MIB) == 8
    assert max_in_flight(525 * MIB, 8) == 1


def test_multipart_etag_is_the_md5_of_the_md5s_of_the_parts():
    parts = [hashlib.md5(body, usedforsecurity=False) for body in (b"one", b"two")]
    joined = hashlib.md5(b"".join(part.digest() for part in parts), usedforsecurity=False).hexdigest()
    assert multipart_etag([part.hexdigest() for part in parts]) == f"{joined}-2"
