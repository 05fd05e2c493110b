"""Which bytes a Range header asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.problems import HttpProblem
from services.ingress.core.ranges import parse_range

BODY = bytes(range(256))


def sent(header, body):
    """Return what a client gets; None stands for a refusal."""
    try:
        part = parse_range(header, len(body))
    except HttpProblem:
        return None
    return body if part is None else body[part.start : part.end]


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 60))
def test_from_one_byte_to_another_is_the_slice(body, first, last):
    expected = body if last < first else body[first : last + 1] or None
    assert sent(f"bytes={first}-{last}", body) == expected


@given(st.binary(max_size=40), st.integers(0, 60))
def test_from_one_byte_on_is_the_slice_to_the_end(body, first):
    assert sent(f"bytes={first}-", body) == (body[first:] or None)


@given(st.binary(max_size=40), st.integers(1, 60))
def test_last_bytes_are_the_slice_from_behind(body, count):
    assert sent(f"bytes=-{count}", body) == body[-count:]


@given(st.text(max_size=30))
def test_no_header_breaks_it(header):
    assert sent(header, BODY) is not None


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=0-1,3-4",
        "lines=0-1",
        "bytes=a-b",
        "bytes=5-2",
        "0-1",
        "bytes=\u0661-\u0662",
    ],
)
def test_anything_but_a_single_byte_range_returns_the_whole_object(header):
    assert parse_range(header, 256) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=256-", 256), ("bytes=-0", 256), ("bytes=0-", 0)])
def test_range_past_the_end_is_refused_with_the_size(header, size):
    with pytest.raises(HttpProblem) as caught:
        parse_range(header, size)
    assert (caught.value.code, caught.value.headers) == ("RANGE_PAST_END", {"content-range": f"bytes */{size}"})


def test_content_range_header_has_inclusive_end():
    part = parse_range("bytes=0-9999999999999999999", 256)
    assert (part.content_range, part.length) == ("bytes 0-255/256", 256)
    assert parse_range("Bytes= 10-19 ", 256).content_range == "bytes 10-19/256"
