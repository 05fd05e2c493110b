import hashlib

from hypothesis import given
from hypothesis import strategies as st

from services.cli.core.parts import MAX_OBJECT, MAX_PARTS, MIB, PART, cut, etag_of, in_flight, part_size


@given(st.integers(0, MAX_OBJECT))
def test_no_file_needs_more_parts_than_s3_takes(size):
    each = part_size(size)
    assert each >= PART
    assert each % MIB == 0
    assert -(-size // each) <= MAX_PARTS


@given(st.integers(0, 300), st.integers(1, 50))
def test_parts_cover_the_file_once_and_in_order(size, each):
    parts = list(cut(size, each))
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [offset for part in parts for offset in range(part.start, part.start + part.size)] == list(range(size))


def test_memory_bounds_the_parts_in_flight():
    assert in_flight(8 * MIB, 8) == 8
    assert in_flight(8 * MIB, 100, memory=64 * MIB) == 8
    assert in_flight(525 * MIB, 8) == 1


def test_the_etag_of_a_multipart_object_is_the_md5_of_its_parts_md5s():
    parts = [hashlib.md5(body, usedforsecurity=False) for body in (b"one", b"two")]
    joined = hashlib.md5(b"".join(part.digest() for part in parts), usedforsecurity=False).hexdigest()
    assert etag_of([part.hexdigest() for part in parts]) == f"{joined}-2"
