"""Files of rows made to cost more than they weigh: each is refused with its reason, and no neighbor waits for it."""

import contextlib
import gzip
import threading
from collections.abc import Iterator
from io import BytesIO

import polars as pl
import psutil
import pytest

from tests.support.etl import Users
from tests.support.uploads import Upload, many_rows, no_rows
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MIB = 1 << 20
HEADER = b"user_id,first_name,last_name,birthts\n"
FIELDS = HEADER.decode().strip().split(",")
CHILD_BYTES = 512 * MIB
WITHIN_SECONDS = 90


def parquet(value: str, rows: int) -> bytes:
    column, body = pl.repeat(value, rows, eager=True), BytesIO()
    pl.DataFrame(dict.fromkeys(FIELDS, column)).write_parquet(body, compression="zstd", row_group_size=rows)
    return body.getvalue()


def lines(unit: bytes, size: int) -> bytes:
    return HEADER + unit * (size // len(unit))


@contextlib.contextmanager
def largest_reader(pid: int) -> Iterator[list[int]]:
    """Note the most that any child of a process holds in memory while the block runs, in bytes."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            with contextlib.suppress(psutil.Error):
                held = [one.memory_info().rss for one in psutil.Process(pid).children(recursive=True)]
                most[0] = max(most[0], sum(held))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def codes(users: Users) -> dict[str, str]:
    """Return the code of each refused file, by name."""
    return {row["key"].removeprefix(users.system.prefix): row["code"] for row in users.rejects() if row["row"] == 0}


def neighbor() -> Upload:
    """Return a file that is large, too, and good."""
    made = many_rows("neighbor", {f"{number}": ("Ada", "Lovelace", 0) for number in range(60_000)})
    assert len(made.body) > MIB
    return made


def test_bombs_are_refused_in_bounded_memory_and_their_neighbor_is_loaded(users):
    (name,) = users.serve()
    bombs = {
        "memory.parquet": parquet("x" * 50, 8_000_000),
        "text.parquet": parquet("y" * 100_000, 2000),
        "quotes.csv": lines(b'"a\n', 38 * MIB),
        "quotes.csv.gz": gzip.compress(lines(b'"a\n', 38 * MIB)),
        "numbers.csv": lines(b"1,a,b,x\n", 20 * MIB),
    }
    assert len(bombs["memory.parquet"]) < 100_000
    good = neighbor()
    with largest_reader(users.system.stack.pid(name)) as most:
        users.put(*(no_rows(key, body) for key, body in bombs.items()), good)
        until(
            lambda: users.table("count(*) AS rows")[0]["rows"] == len(good.rows), WITHIN_SECONDS, "the neighbor's rows"
        )
        until(lambda: len(codes(users)) == len(bombs), WITHIN_SECONDS, lambda: codes(users))
    assert codes(users) == {
        "memory.parquet": "EXPANDS_TOO_FAR",
        "text.parquet": "EXPANDS_TOO_FAR",
        "quotes.csv": "TOO_MANY_REJECTS",
        "quotes.csv.gz": "TOO_MANY_REJECTS",
        "numbers.csv": "TOO_MANY_REJECTS",
    }
    assert 0 < most[0] < CHILD_BYTES + 100 * MIB
