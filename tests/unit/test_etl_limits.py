"""The cost of reading hostile files is bounded."""

import asyncio
import gzip
import time
from io import BytesIO

import polars as pl
import pytest

from services.etl.adapters.parquet_process import parquet_batches
from services.etl.adapters.small_files import read_small_file
from services.etl.core import limits
from services.etl.core.datasets import Datasets
from services.etl.core.limits import RowCount
from services.etl.core.rejects import RejectedFile
from services.etl.core.streaming import RowStream
from services.etl.workers.lane import Lane

USERS = Datasets.parse('[users]\nbucket = "b"\nkey = "id"\n[users.columns.name]\ntype = "text"\n').by_name["users"]
HEADER = b"id,name\n"
MIB = 1 << 20
MAX_REJECTED_ROWS = 5000


@pytest.fixture(autouse=True)
def few_rejects(monkeypatch):
    monkeypatch.setattr(limits, "MAX_REJECTED_ROWS", MAX_REJECTED_ROWS)


def streamed(body, key="x.csv"):
    """Read a file until it ends or is rejected; return its valid rows, its rejects and the bytes read."""
    stream = RowStream(key, USERS, line_bytes=MIB)
    batches, taken = [], 0
    while taken < len(body) and not stream.is_rejected:
        batches += stream.feed(body[taken : taken + MIB])
        taken += MIB
    batches += stream.end()
    return sum(one.frame.height for one in batches), [reject for one in batches for reject in one.rejects], taken


def filled(unit, size=3 * MIB):
    return unit * (size // len(unit))


@pytest.mark.parametrize(
    "unit",
    [
        b'"a\n',
        b'"\n',
        b'"""\n',
        b'1,"a\n',
        b'"a\nb"c\n',
        b'"a\nb"\n',
        b'"a"b\n',
        b"x\n",
        b",\0,x\n",
        b"\xff\n",
        b'"a\n' + b"y\n" * 5000 + b'b"\n',
    ],
    ids=repr,
)
def test_file_of_wrong_lines_is_rejected_early(unit):
    rows, rejects, taken = streamed(HEADER + filled(unit))
    assert (rows, rejects[-1].line, rejects[-1].code) == (0, 0, "TOO_MANY_REJECTS")
    assert len(rejects) <= MAX_REJECTED_ROWS + 1
    assert taken <= 2 * MIB


@pytest.mark.parametrize("unit", [b'{"a\n', b"x\n", b'{"id":[]}\n'], ids=repr)
def test_file_of_wrong_json_is_rejected_early(unit):
    _, rejects, taken = streamed(filled(unit), "x.jsonl")
    assert rejects[-1].code == "TOO_MANY_REJECTS"
    assert taken <= 2 * MIB


def test_small_compressed_file_of_wrong_lines_is_rejected_at_same_limit():
    body = gzip.compress(HEADER + filled(b'"a\n', MIB))
    assert [one.code for one in read_small_file(body, "x.csv.gz", USERS, line_bytes=MIB).rejects] == [
        "TOO_MANY_REJECTS"
    ]


def test_many_wrong_rows_among_more_good_ones_are_rejected_alone():
    good = b"".join(b"%d,name\n" % number for number in range(MAX_REJECTED_ROWS + 5000))
    rows, rejects, _ = streamed(HEADER + good + b"x\n" * (MAX_REJECTED_ROWS + 1))
    assert rows == MAX_REJECTED_ROWS + 5000
    assert {one.code for one in rejects} == {"RAGGED"}


def test_wrong_values_count_like_wrong_lines():
    count = RowCount()
    count.add(good=MAX_REJECTED_ROWS + 1, rejected=MAX_REJECTED_ROWS)
    count.add(rejected=1)
    with pytest.raises(RejectedFile, match="most of the file are wrong"):
        count.add(rejected=1)


@pytest.mark.parametrize(
    ("unit", "key"),
    [
        (b"\n", "x.csv"),
        (b"\r", "x.csv"),
        (b"\r\n", "x.csv"),
        (b"  \n", "x.csv"),
        (b"\n", "x.jsonl"),
        (b"\t\n", "x.csv"),
    ],
    ids=repr,
)
def test_blank_lines_cost_no_more_than_rows(unit, key):
    row = b'{"id":"1","name":"x"}\n' if key.endswith("l") else b"1,xxxxxxxxxxxxxxxxxxxx\n"
    header = b"" if key.endswith("l") else HEADER
    of_rows = _seconds(header + filled(row, 2 * MIB), key)
    assert _seconds(header + row + filled(unit, 2 * MIB), key) < 10 * of_rows + 0.5


def test_line_number_counts_blank_lines():
    _, rejects, _ = streamed(HEADER + b"1,a\n" + b"\n" * (3 * MIB) + b"wrong\n")
    assert [(one.line, one.code) for one in rejects] == [(3 * MIB + 3, "RAGGED")]


@pytest.mark.parametrize("size", [64 << 10, MIB])
def test_many_gzip_members_take_linear_time(size):
    body = gzip.compress(HEADER + b"1,a\n") + filled(gzip.compress(b""), size)
    assert _seconds(body, "x.csv.gz") < 3.0


def _seconds(body, key):
    began = time.process_time()
    streamed(body, key)
    return time.process_time() - began


def twice_as_long(unit):
    """Return the time ratio of doubled input; the minimum of a few tries, to exclude noise."""
    small, large = (HEADER + b"1,a\n" + unit * count for count in (1000, 2000))
    return min(_seconds(large, "x.csv") for _ in range(5)) / min(_seconds(small, "x.csv") for _ in range(5))


@pytest.mark.parametrize("unit", [b'"a\n' * 20, b'"\n' * 20, b'"a\n' + b"b\n" * 20, b'"a\nb"c\n' * 20], ids=repr)
def test_open_quotes_take_linear_time(unit):
    assert twice_as_long(unit) < 3


def stored(tmp_path, **columns):
    path = tmp_path / "x.parquet"
    pl.DataFrame(columns).write_parquet(path, compression="zstd", row_group_size=50_000_000)
    return path


def refusals(path, **limits):
    return [one for batch in parquet_batches(path, USERS, **limits) for one in batch.rejects]


def test_parquet_above_memory_limit_is_rejected_with_setting(tmp_path):
    many = pl.repeat("x" * 50, 6_000_000, eager=True)
    path = stored(tmp_path, id=many, name=many)
    assert path.stat().st_size < 100_000
    (refused,) = refusals(path, memory_bytes=256 << 20)
    assert (refused.line, refused.code) == (0, "EXPANDS_TOO_FAR")
    assert "256 MiB" in refused.reason
    assert "PENSTOCK_ETL_PARQUET_BYTES" in refused.reason


def test_parquet_that_expands_too_far_is_rejected(tmp_path):
    path = stored(tmp_path, id=pl.repeat("x" * 100_000, 5000, eager=True))
    assert path.stat().st_size < 10_000
    (refused,) = refusals(path)
    assert refused.code == "EXPANDS_TOO_FAR"


def test_parquet_of_many_empty_cells_is_rejected(tmp_path):
    column = pl.repeat(None, 34_000_000, eager=True, dtype=pl.String)
    (refused,) = refusals(stored(tmp_path, id=column))
    assert refused.code == "EXPANDS_TOO_FAR"


def test_parquet_with_long_row_is_rejected_with_row_number(tmp_path):
    path = stored(tmp_path, id=["1", "2", "3"], name=["a", "b" * MIB, "c"])
    (refused,) = refusals(path)
    assert refused.reason == "row 2 has more than 1,048,576 bytes; shorten it"


def test_parquet_batches_are_bounded_in_text(tmp_path):
    names = [f"{number:08}" * 12_500 for number in range(200)]
    path = stored(tmp_path, id=[str(number) for number in range(200)], name=names)
    frames = [batch.frame for batch in parquet_batches(path, USERS)]
    assert max(frame["name"].str.len_bytes().sum() for frame in frames) < 10 * MIB
    assert pl.concat(frames)["name"].to_list() == names
    assert pl.concat(frames)["line"].to_list() == list(range(1, 201))


def test_parquet_without_rows_gives_no_rows(tmp_path):
    path = stored(tmp_path, id=pl.Series([], dtype=pl.String), name=pl.Series([], dtype=pl.String))
    assert refusals(path) == []


def test_nested_parquet_is_rejected(tmp_path):
    deep = [["x"]]
    for _ in range(20):
        deep = [deep]
    body = BytesIO()
    pl.DataFrame({"id": ["1"], "name": [deep]}).write_parquet(body)
    (tmp_path / "deep.parquet").write_bytes(body.getvalue())
    assert [one.code for one in refusals(tmp_path / "deep.parquet")] == ["NESTED"]


async def test_slow_file_yields_lane_to_next():
    lane, events = Lane(max_hold_seconds=0.0), []

    async def read(name, batches):
        async with lane.enter() as lane_lock:
            for _ in range(batches):
                events.append(name)
                await asyncio.sleep(0)
                await lane_lock.yield_to_waiting()

    await asyncio.gather(read("slow", 6), read("fast", 2))
    assert events == ["slow", "fast", "slow", "fast", "slow", "slow", "slow", "slow"]


async def test_file_keeps_lane_until_max_hold():
    lane, events = Lane(max_hold_seconds=60.0), []

    async def read(name):
        async with lane.enter() as lane_lock:
            for _ in range(3):
                events.append(name)
                await asyncio.sleep(0)
                await lane_lock.yield_to_waiting()

    await asyncio.gather(read("first"), read("second"))
    assert events == ["first"] * 3 + ["second"] * 3


async def test_cancelled_waiter_does_not_release_lane_of_others():
    lane = Lane(max_hold_seconds=0.0)
    inside = asyncio.Event()

    async def shared():
        async with lane.enter() as lane_lock:
            inside.set()
            while True:
                await asyncio.sleep(0)
                await lane_lock.yield_to_waiting()

    first = asyncio.create_task(shared())
    await inside.wait()
    async with lane.enter():
        first.cancel()
        await asyncio.wait((first,))
        assert lane.lock.locked(), "the turn is ours"
    assert not lane.lock.locked()
