"""Streaming a file gives the same result as reading it whole."""

import gzip
import json
import multiprocessing
import tracemalloc
import zlib
from datetime import date, datetime, timedelta
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.etl.adapters.parquet_process import ReaderLost, parquet_batches
from services.etl.adapters.small_files import is_small, read_small_file
from services.etl.core import decoding
from services.etl.core.checking import check
from services.etl.core.cleaning import BLANKS
from services.etl.core.datasets import Column, Dataset
from services.etl.core.parquet import read_batches
from services.etl.core.rejects import RejectedFile
from services.etl.core.streaming import RowStream
from services.etl.core.values import LINE

GOLDEN = Path(__file__).parent / "golden"
USERS = Dataset(
    name="users",
    bucket="b",
    key="id",
    columns={"name": Column(type="text", required=True), "note": Column(type="text")},
)
LOOSE = USERS.model_copy(update={"extra_columns": "ignore"})
HEADERS = (b"id,name,note\n", b"name, note\n", b'"name",id\r\n', b"note\tname\tid\n", b"id,name,note,more\n", b"")
TOKENS = (
    b'"',
    b",",
    b"\n",
    b"\r",
    b" ",
    b"a",
    b"bb",
    b'""',
    b"\xff",
    "é".encode(),
    b"\0",
    b"\t",
    b"1",
    b'","',
    b"\x85",
)
REGULAR = st.lists(st.sampled_from((b"1,a,b\n", b"2,,\n", b'3,"a",b\n', b'4,"a,""x""",b\n', b"5, a ,b\n")), max_size=20)
JSON = st.lists(
    st.sampled_from(
        (
            b'{"id": 1, "name": "a"}',
            b'{"name": "a"}',
            b'{"id": "2", "name": 12345678901234567890.10, "note": null}',
            b'{"id": 3, "name": "\\ud800"}',
            b'{"id": 4, "name": "a\\u0000"}',
            b'{"id": 5, "name": [1]}',
            b'{"id": 6, "id": 7}',
            b'{"id": 7, "name": true, "extra": {}}',
            b'{"id": NaN}',
            b"[]",
            b"",
            b"  ",
            b"{",
            b"\xff",
            b"[" * 5000,
        )
    ),
    max_size=6,
).map(b"\n".join)
TEXTS = st.one_of(
    st.binary(max_size=60),
    REGULAR.map(b"".join),
    st.lists(st.sampled_from(TOKENS), max_size=60).map(b"".join),
    st.builds(lambda one, odd, two: b"".join([*one, odd, *two]), REGULAR, st.binary(max_size=8), REGULAR),
)

BODIES = st.builds(
    lambda head, text, encoding: (head + text).decode("latin-1").encode(encoding) if encoding else head + text,
    st.sampled_from(HEADERS),
    TEXTS,
    st.sampled_from(("", "", "", "utf-8-sig", "utf-16")),
)


@pytest.fixture(scope="module", autouse=True)
def short_heads():
    """Shorten the detection head, so that short files also come in several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "HEAD_BYTES", 16)
        yield


def trimmed(values):
    return [tuple((value or "").strip(BLANKS) or None for value in row) for row in values]


def at_once(body, key, dataset, line_bytes):
    rows = read_small_file(body, key, dataset, line_bytes=line_bytes)
    assert len(rows.lines) == len(rows.values)
    return list(zip(rows.lines, trimmed(rows.values), strict=True)), list(rows.rejects)


def as_it_comes(pieces, key, dataset, line_bytes, block_bytes):
    stream = RowStream(key, dataset, line_bytes=line_bytes, block_bytes=block_bytes)
    batches = [batch for piece in pieces for batch in stream.feed(piece)] + stream.end()
    rejects = [reject for batch in batches for reject in batch.rejects]
    if whole := [reject for reject in rejects if not reject.line]:
        return [], whole
    frames = [batch.frame for batch in batches if batch.frame.height]
    for frame in frames:
        assert frame.columns == [LINE, *dataset.fields]
    rows = [(line, row) for frame in frames for line, *row in frame.iter_rows()]
    return list(zip([line for line, _ in rows], trimmed(row for _, row in rows), strict=True)), rejects


def cut(body, places):
    ends = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    return [body[a:b] for a, b in pairwise(ends)]


@settings(max_examples=500)
@given(
    body=BODIES,
    ending=st.sampled_from(("csv", "tsv")),
    dataset=st.sampled_from((USERS, LOOSE)),
    limits=st.tuples(st.sampled_from((12, 40, 1 << 20)), st.sampled_from((1, 10, 30, 1 << 20))),
    places=st.lists(st.integers(0, 500), max_size=4),
)
@example(HEADERS[0] + b'1,"a\n2,b,c\n', "csv", USERS, (1 << 20, 1), [])
@example(HEADERS[0] + b"1,a,b\n\xef\xbb\xbf2,a,b\n", "csv", USERS, (1 << 20, 1), [])
@example(HEADERS[0] + b"1,a,b\n,,\n\n2,a\n3,a,b,c\n", "csv", USERS, (1 << 20, 1 << 20), [])
def test_delimited_file_gives_same_rows_for_any_split(body, ending, dataset, limits, places):
    line_bytes, block_bytes = limits
    whole = at_once(body, f"x.{ending}", dataset, line_bytes)
    assert as_it_comes(cut(body, places), f"x.{ending}", dataset, line_bytes, block_bytes) == whole


@settings(max_examples=150)
@given(
    text=st.one_of(JSON, st.binary(max_size=40)),
    line_bytes=st.sampled_from((30, 1 << 20)),
    block_bytes=st.sampled_from((1, 30)),
    places=st.lists(st.integers(0, 500), max_size=4),
)
def test_json_lines_give_same_rows_for_any_split(text, line_bytes, block_bytes, places):
    whole = at_once(text, "x.jsonl", USERS, line_bytes)
    assert as_it_comes(cut(text, places), "x.jsonl", USERS, line_bytes, block_bytes) == whole


def is_gzip(body):
    try:
        return bool(gzip.decompress(body))
    except (EOFError, OSError, zlib.error):
        return False


@settings(max_examples=150)
@given(
    members=st.lists(REGULAR.map(b"".join), min_size=1, max_size=3),
    damage=st.one_of(st.none(), st.integers(0, 200)),
    tail=st.sampled_from((b"", b"\0\0", b"\0x", b"x")),
    places=st.lists(st.integers(0, 500), max_size=4),
)
def test_compressed_file_gives_same_result_for_any_split_and_damage(members, damage, tail, places):
    body = b"".join(gzip.compress(text, mtime=0) for text in (HEADERS[0], *members))
    if damage is not None:
        body = body[: damage % len(body)]
    body += tail
    rows, rejects = at_once(body, "x.csv.gz", USERS, 1 << 20)
    parts = as_it_comes(cut(body, places), "x.csv.gz", USERS, 1 << 20, 30)
    assert parts == (rows, rejects)
    assert is_gzip(body) != any(reject.code == "NOT_GZIP" for reject in rejects)


def test_row_spanning_blocks_has_number_of_its_first_line():
    body = b'id,name,note\n1,"a\n\n\nb",c\n2,x,y\n'
    rows, rejects = as_it_comes([body], "x.csv", USERS, 1 << 20, 1)
    assert rows == [(2, ("1", "a\n\n\nb", "c")), (6, ("2", "x", "y"))]
    assert not rejects


def fed(stream, pieces):
    peak_rows = 0
    codes = []
    for piece in pieces:
        for batch in stream.feed(piece):
            peak_rows += batch.frame.height
            codes += [(reject.line, reject.code) for reject in batch.rejects]
    return peak_rows, codes


@pytest.mark.parametrize(("opening", "code"), [(b"2,", "LINE_TOO_LONG"), (b'2,"', "LINE_TOO_LONG")])
def test_endless_line_is_rejected_in_bounded_memory(opening, code):
    stream = RowStream("x.csv", USERS, line_bytes=1 << 16)
    tracemalloc.start()
    pieces = [b"id,name,note\n1,a,b\n", opening, *[b"x" * (1 << 18)] * 400, b"\n3,c,d\n"]
    rows, codes = fed(stream, pieces)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (end,) = stream.end()
    assert rows + end.frame.height == 2
    assert codes + [(reject.line, reject.code) for reject in end.rejects] == [(3, code)]
    assert peak < 8 << 20


def test_unclosed_quote_rejects_one_row_in_bounded_memory():
    stream = RowStream("x.csv", USERS, line_bytes=1 << 16)
    tracemalloc.start()
    rows, codes = fed(stream, [b'id,name,note\n1,"a,b\n', *[b"2,a,b\n" * 10_000] * 50])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rows += sum(batch.frame.height for batch in stream.end())
    assert rows == 500_000
    assert codes == [(2, "UNCLOSED_QUOTE")]
    assert peak < 64 << 20


@pytest.mark.timeout(20)
@pytest.mark.parametrize("line", [b'x","\n', b'"\n', b'"""\n', b'a,"b\n', b'"a"b"\n'])
def test_lines_of_open_quotes_take_linear_time(line):
    stream = RowStream("x.csv", USERS, line_bytes=1 << 20)
    _rows, codes = fed(stream, [b"id,name,note\n", *[line * 4096] * 20])
    for batch in stream.end():
        codes += batch.rejects
    assert len(codes) > 1000


def test_gzip_bomb_is_rejected_early(monkeypatch):
    monkeypatch.setattr(decoding, "_FREE_BYTES", 4 << 20)
    bomb = gzip.compress(b"id,name,note\n" + b"1,a,b\n" * 2_000_000, compresslevel=9)
    stream = RowStream("x.csv.gz", USERS, line_bytes=1 << 16)
    batches = []
    for at in range(0, len(bomb), 1 << 16):
        batches += stream.feed(bomb[at : at + (1 << 16)])
    batches += stream.end()
    assert stream.is_rejected
    assert batches[-1].rejects[0].code == "GZIP_BOMB"
    assert sum(batch.frame.height for batch in batches) * 6 <= 5 << 20
    assert not is_small(bomb[: 1 << 16], "x.csv.gz", 1 << 20)
    assert [reject.code for reject in read_small_file(bomb, "x.csv.gz", USERS, line_bytes=1).rejects] == ["GZIP_BOMB"]


def test_compressed_file_is_small_by_expanded_size():
    body = gzip.compress(b"1,a,b\n" * 100)
    assert is_small(body, "x.csv.gz", 600)
    assert not is_small(body, "x.csv.gz", 599)
    assert is_small(b"no gzip", "x.csv.gz", 600)
    assert is_small(b"x" * 600, "x.csv", 600)
    assert not is_small(b"x" * 601, "x.csv", 600)
    assert not is_small(b"", "x.parquet", 600)


def test_rejected_file_is_not_read_further():
    stream = RowStream("x.csv", USERS, line_bytes=1 << 20, block_bytes=1)
    body = b"name\na\nb\nc\nd\ne\nf\n"
    assert [reject.code for batch in stream.feed(body) for reject in batch.rejects] == ["NO_KEY"]
    assert stream.is_rejected
    assert stream.feed(b"c\n") == []
    assert stream.end() == []


NEW_YEAR_2000 = 946_684_800_000
DAY = 86_400_000
KINDS = Dataset(
    name="kinds",
    bucket="b",
    key="id",
    columns={
        "whole": Column(type="integer"),
        "ms": Column(type="milliseconds"),
        "at": Column(type="timestamp"),
        "day": Column(type="date"),
        "yes": Column(type="boolean"),
        "real": Column(type="number"),
        "text": Column(type="text"),
    },
)


def parquet(folder, file, **columns):
    path = folder / file
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_parquet_types_are_converted_to_text(tmp_path):
    path = parquet(
        tmp_path,
        "x.parquet",
        id=[1, 2],
        whole=[7.0, 7.5],
        ms=[date(2000, 1, 1), None],
        at=pl.Series([date(2000, 1, 1), None]).cast(pl.Datetime("ns")),
        day=[date(2000, 2, 29), None],
        yes=[True, None],
        real=[1e20, 0.1],
        text=pl.Series(["a", "b"], dtype=pl.Categorical),
    )
    (batch,) = parquet_batches(path, KINDS)
    checked = check(batch.frame, KINDS, today=date(2026, 1, 1))
    (row,) = checked.good.iter_rows(named=True)
    assert row["id"] == "1"
    assert (row["whole"], row["ms"], row["real"], row["text"]) == (7, 946684800000, 1e20, "a")
    assert (row["day"], row["yes"], row["at"].isoformat()) == (date(2000, 2, 29), True, "2000-01-01T00:00:00+00:00")
    assert [(reject.line, reject.code, reject.column) for reject in checked.rejects] == [(2, "NOT_WHOLE", "whole")]


def test_parquet_timestamps_are_converted_to_utc(tmp_path):
    moments = pl.Series([datetime(2000, 1, 1, 0, 30), datetime(2000, 1, 2, 1)])  # noqa: DTZ001 - as written
    zoned = moments.dt.replace_time_zone("Europe/Paris")
    path = parquet(tmp_path, "x.parquet", id=[1, 2], ms=zoned, at=zoned, day=zoned)
    frame = next(read_batches(path, "x.parquet", KINDS)).frame
    assert frame["ms"].to_list() == [str(NEW_YEAR_2000 - 1_800_000), str(NEW_YEAR_2000 + DAY)]
    assert frame["at"].to_list() == ["1999-12-31T23:30:00.000000Z", "2000-01-02T00:00:00.000000Z"]
    assert frame["day"].to_list() == ["1999-12-31T23:30:00.000000Z", "2000-01-02"]


def test_parquet_line_numbers_continue_across_batches(tmp_path):
    path = parquet(tmp_path, "x.parquet", id=range(200_000), name=["a"] * 200_000, note=["b"] * 200_000)
    batches = list(parquet_batches(path, USERS))
    assert len(batches) > 1
    assert pl.concat([batch.frame for batch in batches])[LINE].to_list() == list(range(1, 200_001))
    assert read_small_file(path.read_bytes(), "x.parquet", USERS, line_bytes=1).rejects[0].code == "TOO_MANY_ROWS"


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"name": ["a"]}, None),
        ({"name": ["a", "b"]}, "NO_KEY"),
        ({"id": ["a"]}, "MISSING_COLUMN"),
        ({"id": ["a"], "name": ["b"], "more": ["c"]}, "EXTRA_COLUMN"),
        ({"id": ["a"], "name": [["b"]]}, "NESTED"),
        ({"id": ["a"], "name": [timedelta(1)]}, "DURATION"),
    ],
)
def test_parquet_columns_follow_header_rules(tmp_path, columns, code):
    path = parquet(tmp_path, "1000.parquet", **columns)
    if code:
        with pytest.raises(RejectedFile) as caught:
            list(read_batches(path, "1000.parquet", USERS))
        assert (caught.value.reject.line, caught.value.reject.code) == (0, code)
    else:
        assert [batch.frame.rows() for batch in read_batches(path, "1000.parquet", USERS)] == [[(1, "1000", "a", None)]]


def test_rejected_parquet_file_gives_one_reject(tmp_path):
    path = parquet(tmp_path, "copy.parquet", name=["a", "b"])
    (batch,) = parquet_batches(path, USERS, "a/1000.parquet")
    assert batch.rejects == list(read_small_file(path.read_bytes(), "a/1000.parquet", USERS, line_bytes=1).rejects)
    assert [(reject.line, reject.code, reject.column) for reject in batch.rejects] == [(0, "NO_KEY", "id")]


def test_parquet_that_crashes_its_reader_is_rejected():
    (batch,) = parquet_batches(GOLDEN / "aborts_its_reader.parquet", USERS)
    assert [(reject.line, reject.code) for reject in batch.rejects] == [(0, "NOT_PARQUET")]


def test_reader_killed_from_outside_raises_reader_lost(tmp_path):
    path = parquet(tmp_path, "x.parquet", id=range(300_000), name=["a"] * 300_000)
    batches = parquet_batches(path, USERS)
    next(batches)
    (child,) = multiprocessing.active_children()
    child.kill()
    with pytest.raises(ReaderLost, match=r"ended with -9; it is read again"):
        list(batches)


def test_closed_reader_ends_its_process(tmp_path):
    path = parquet(tmp_path, "x.parquet", id=range(300_000), name=["a"] * 300_000)
    batches = parquet_batches(path, USERS)
    next(batches)
    batches.close()
    assert not multiprocessing.active_children()


@settings(max_examples=5)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_parquet_is_rejected_or_read_completely(damage):
    stored = BytesIO()
    pl.DataFrame({"id": ["1", "2"], "name": ["a", "b"]}).write_parquet(stored)
    body = bytearray(stored.getvalue())
    for place, value in damage:
        body[place % len(body)] = value
    rows = read_small_file(bytes(body), "x.parquet", USERS, line_bytes=1)
    assert [reject.line for reject in rows.rejects] == ([] if rows.values else [0])


def test_json_numbers_keep_every_digit():
    body = json.dumps({"id": 2**63, "name": 10**40}).encode()
    assert at_once(body, "x.jsonl", USERS, 1 << 20)[0] == [(1, (str(2**63), str(10**40), None))]
