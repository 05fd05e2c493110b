"""Output files equal the table, are written rarely, and never by an outdated writer."""

import asyncio
import csv
import io
import sys
import uuid
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr

from services.etl.adapters.exports import Exports
from services.etl.adapters.outputs import Outputs
from services.etl.adapters.schema import ensure_schema, ensure_tables
from services.etl.core.datasets import Dataset, Datasets
from services.etl.settings import EtlSettings
from services.etl.workers import Exporter
from shared.errors import PenstockError
from shared.postgres import open_pool
from shared.storage import ObjectGone, ObjectRef, open_store
from shared.work import Lease, LeaseLost, RetryPolicy, Worker, WorkQueue
from tests.support.etl_reading import understood
from tests.support.s3 import s3_client

pytestmark = pytest.mark.integration

SECTION = """
[{name}]
bucket = "src-data"
prefix = "{name}/"
key = "user_id"
images = ["png"]

[{name}.columns]
name = {{ type = "text" }}
born = {{ type = "date" }}
seen = {{ type = "timestamp" }}
score = {{ type = "number" }}
agrees = {{ type = "boolean" }}
birthts = {{ type = "milliseconds" }}
"""
COLUMNS = "user_id,name,born,seen,score,agrees,birthts,img_path"
STORED = datetime(2024, 2, 29, tzinfo=UTC)


@dataclass
class ExportCase:
    """One dataset with its own versioned output bucket, so that writes can be counted."""

    pool: Any
    store: Any
    boto: Any
    dataset: Dataset
    settings: EtlSettings
    lease_seconds: float = 30.0

    def __post_init__(self) -> None:
        self.queue = WorkQueue(self.pool, f"exports.{self.dataset.name}", lease_seconds=self.lease_seconds)
        self.exporter = self.another()

    @property
    def bucket(self) -> str:
        return self.settings.etl_output_bucket

    def another(self, **settings: object) -> Exporter:
        exports = Exports(self.pool, self.queue, self.settings.model_copy(update=settings))
        return Exporter(exports, Outputs(self.store, self.bucket), Datasets({self.dataset.name: self.dataset}))

    async def source(self, key: str, kind: str = "rows") -> int:
        return await self.pool.fetchval(
            "INSERT INTO etl.sources (bucket, key, dataset, kind, etag, stored_at)"
            " VALUES ('src-data', $1, $2, $3, 'e', $4) RETURNING id",
            f"{self.dataset.name}/{key}",
            self.dataset.name,
            kind,
            STORED,
        )

    async def insert(self, source: int, *rows: tuple[Any, ...]) -> None:
        marks = ", ".join(f"${number}" for number in range(1, 8))
        await self.pool.executemany(
            f'INSERT INTO etl."{self.dataset.name}" VALUES ({marks}, {source}, 1)',  # noqa: S608
            [(*row, *[None] * (7 - len(row))) for row in rows],
        )
        await self.exporter.exports.request_rewrite(self.dataset.name)

    async def reject(self, source: int, *rejects: tuple[Any, ...]) -> None:
        """Replace the rejects of a source, as a writer does."""
        await self.pool.execute("DELETE FROM etl.rejects WHERE source_id = $1", source)
        await self.pool.executemany(f"INSERT INTO etl.rejects VALUES ({source}, $1, $2, $3, $4, $5)", rejects)  # noqa: S608
        await self.pool.execute("UPDATE etl.sources SET fence = fence + 1, is_stale = true WHERE id = $1", source)
        await self.exporter.exports.request_rewrite(self.dataset.name)

    async def claimed(self) -> list[Lease]:
        for due in await self.exporter.exports.due([self.dataset.name]):
            await self.exporter.exports.enqueue(due)
        return [Lease(item) for item in await self.queue.claim("test", 2)]

    async def write(self, exporter: Exporter | None = None) -> int:
        """Write all due exports; return their number."""
        leases = await self.claimed()
        for lease in leases:
            await (exporter or self.exporter).write(lease)
            await self.queue.complete(lease.item)
        return len(leases)

    async def state(self) -> Any:
        return await self.pool.fetchrow("SELECT * FROM etl.exports WHERE dataset = $1", self.dataset.name)

    async def cells(self) -> list[list[str]]:
        _, body = await self.store.read(ObjectRef(self.bucket, f"{self.dataset.name}.csv"))
        return list(csv.reader(io.StringIO(body.decode(), newline="")))

    async def frame(self) -> pl.DataFrame:
        _, body = await self.store.read(ObjectRef(self.bucket, f"{self.dataset.name}.parquet"))
        return pl.read_parquet(io.BytesIO(body))

    async def users(self) -> set[str]:
        frame, cells = await self.frame(), await self.cells()
        assert frame["user_id"].to_list() == [row[0] for row in cells[1:]]
        return set(frame["user_id"])

    async def rejects(self, key: str) -> list[list[str]] | None:
        with suppress(ObjectGone):
            ref = ObjectRef(self.bucket, f"rejects/{self.dataset.name}/{self.dataset.name}/{key}.csv")
            _, body = await self.store.read(ref)
            return list(csv.reader(io.StringIO(body.decode(), newline="")))
        return None

    def writes(self, ending: str) -> int:
        listed = self.boto.list_object_versions(Bucket=self.bucket, Prefix=f"{self.dataset.name}.{ending}")
        return len(listed.get("Versions", ()))


@pytest.fixture
async def export(stack, tmp_path):
    name = f"x{uuid.uuid4().hex[:10]}"
    settings = EtlSettings(
        s3_endpoint=stack.env["PENSTOCK_S3_ENDPOINT"],
        s3_access_key=stack.env["PENSTOCK_S3_ACCESS_KEY"],
        s3_secret_key=SecretStr(stack.env["PENSTOCK_S3_SECRET_KEY"]),
        postgres_dsn=SecretStr(stack.env["PENSTOCK_POSTGRES_DSN"]),
        state_dir=tmp_path,
        etl_output_bucket=f"out-{name}",
        etl_debounce_seconds=0,
        etl_debounce_most_seconds=0,
    )
    boto = s3_client(stack.env)
    boto.create_bucket(Bucket=settings.etl_output_bucket)
    boto.put_bucket_versioning(Bucket=settings.etl_output_bucket, VersioningConfiguration={"Status": "Enabled"})
    datasets = Datasets.parse(SECTION.format(name=name))
    await ensure_schema(settings.postgres_dsn)
    async with AsyncExitStack() as opened:
        pool = await opened.enter_async_context(open_pool(settings.postgres_dsn, service="test"))
        store = await opened.enter_async_context(open_store(settings))
        await ensure_tables(pool, datasets)
        yield ExportCase(pool, store, boto, datasets.by_name[name], settings)
    boto.close()


async def eventually(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - servers tell nobody
            await asyncio.sleep(0.05)


async def test_csv_and_parquet_equal_table(export):
    rows = [
        ("1", 'Zoë "Zed" O\'Brien', date(2000, 2, 29), STORED, 1.5, True, 951_782_400_000),
        ("2", "two\r\nlines, and a comma", date(1900, 1, 1), None, float("inf"), False, -1),
        ("3", "", None, None, 1e-300, None, 2**62),
        ("4", None),
        ("é\N{GRINNING FACE}", " blanks "),
    ]
    await export.insert(await export.source("many.csv"), *rows)
    image = await export.source("2.png", "image")
    await export.pool.execute(
        "INSERT INTO etl.images VALUES ($1, $2, '2', 'image/png', 64, 48)", image, export.dataset.name
    )
    assert await export.write() == 1
    path = f"src-data/{export.dataset.name}/2.png"
    frame = await export.frame()
    assert frame.schema == pl.Schema(
        {
            "user_id": pl.String,
            "name": pl.String,
            "born": pl.Date,
            "seen": pl.Datetime("us", "UTC"),
            "score": pl.Float64,
            "agrees": pl.Boolean,
            "birthts": pl.Int64,
            "img_path": pl.String,
            "img_type": pl.String,
            "img_width": pl.Int64,
            "img_height": pl.Int64,
            "img_sha256": pl.String,
        }
    )
    known = {"2": (path, "image/png", 64, 48, None)}
    assert frame.rows() == [
        (*row, *[None] * (7 - len(row)), *known.get(row[0], ("", None, None, None, None))) for row in rows
    ]
    head, *cells = await export.cells()
    assert ",".join(head) == COLUMNS
    assert [row[:2] for row in cells] == [[row[0], row[1] or ""] for row in rows]
    assert cells[0][2:] == ["2000-02-29", "2024-02-29 00:00:00+00", "1.5", "t", "951782400000", ""]
    assert cells[1][-1] == path
    state = await export.state()
    assert (state["rows"], state["written"], state["dirty_since"]) == (5, state["changed"], None)
    assert list((export.settings.state_dir / "exports").iterdir()) == []


async def test_formulas_are_escaped_in_csv_but_not_in_parquet(export):
    names = ["=1+1", "+1", "-1", "@x", "\tx", "a=1", "'=1", "''a"]
    await export.insert(await export.source("many.csv"), *((f"={n}", name) for n, name in enumerate(names)))
    await export.write()
    cells = await export.cells()
    assert [row[1] for row in cells[1:]] == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "a=1", "''=1", "''a"]
    assert [row[0] for row in cells[1:]] == [f"'={n}" for n in range(len(names))]
    assert (await export.frame())["name"].to_list() == names


async def test_output_files_load_back_unchanged(export):
    first, last = datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    rows = [  # the first and the last day of Python's calendar are infinite to asyncpg
        ("'=1", "'=1", date(9999, 12, 30), last, sys.float_info.max, True, 253_402_214_400_000),
        ("-", 'a\r\nb\rc\n"\\.', date(1, 1, 2), first, 5e-324, False, -62_135_596_800_000),
        ("=1", "'", None, None, -0.0, None, None),
        ("José", "''-", None, STORED, None, None, 0),
        ("\\N", "\\N", None, None, None, None, None),
        ("z", "x" * 100_000 + "\n'@", None, None, 0.1, None, None),
    ]
    await export.insert(await export.source("many.csv"), *rows)
    await export.write()
    for ending in ("csv", "parquet"):
        _, body = await export.store.read(ObjectRef(export.bucket, f"{export.dataset.name}.{ending}"))
        found, rejects = understood(body, f"x.{ending}", export.dataset, block_bytes=1 << 20)
        assert (sorted(found), rejects) == (sorted(rows), []), ending


async def test_empty_table_is_written_only_after_a_load(export):
    assert await export.write() == 0
    assert export.writes("csv") == 0
    await export.pool.execute(
        "INSERT INTO etl.loads (load_id, dataset, why, state, correlation_id)"
        " VALUES ('l', $1, 'test', 'succeeded', '')",
        export.dataset.name,
    )
    assert await export.write() == 1
    assert await export.cells() == [COLUMNS.split(",")]
    assert (await export.frame()).shape == (0, 12)


async def test_burst_is_written_once_per_maximum_wait_including_last_change(export):
    wait = 0.4
    exporters = [export.another(etl_debounce_seconds=wait, etl_debounce_most_seconds=1.0) for _ in range(2)]
    writers = [Worker(export.queue, one.write, concurrency=2, retries=RetryPolicy()).run for one in exporters]
    loops = [asyncio.create_task(loop()) for loop in (*writers, *(one.watch for one in exporters))]
    source, clock = await export.source("many.csv"), asyncio.get_running_loop().time
    try:
        started, number = clock(), 0
        while clock() < started + 3 or number < 30:
            await export.insert(source, (f"{number:05}", "x"))
            await asyncio.sleep(0.01)  # the pace of the burst
            number += 1
        await eventually(lambda: is_shown(export, number), 60)
        most = (clock() - started) / wait + 1
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
    assert 2 <= export.writes("csv") <= most
    assert export.writes("parquet") <= most
    assert len(await export.users()) == number


async def is_shown(export, rows):
    with suppress(ObjectGone):
        return len(await export.cells()) == rows + 1 == (await export.frame()).height + 1
    return False


async def test_unchanged_content_is_not_rewritten(export):
    await export.insert(await export.source("a.csv"), ("1", "x"))
    await export.write()
    await export.exporter.exports.request_rewrite(export.dataset.name)
    assert await export.write() == 1
    assert (export.writes("csv"), export.writes("parquet")) == (1, 1)
    image = await export.source("1.png", "image")
    await export.pool.execute(
        "INSERT INTO etl.images VALUES ($1, $2, '1', 'image/png', 6, 4)", image, export.dataset.name
    )
    await export.exporter.exports.request_rewrite(export.dataset.name)
    await export.write()
    assert (export.writes("csv"), export.writes("parquet")) == (2, 2)


class Sleeper:
    """Outputs that wait before the first write until `awake` is set, like a frozen process."""

    def __init__(self, outputs):
        self._outputs = outputs
        self.asleep, self.awake = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name):
        return getattr(self._outputs, name)

    async def replace(self, *args, **options):
        self.asleep.set()
        await self.awake.wait()
        return await self._outputs.replace(*args, **options)


@pytest.mark.parametrize("is_there", [True, False], ids=["file is there", "file is not there"])
async def test_delayed_writer_does_not_overwrite_newer_file(export, is_there):
    export.queue.lease_seconds = 0.1
    source = await export.source("a.csv")
    if is_there:
        await export.insert(source, ("0", "x"))
        await export.write()
    await export.insert(source, ("1", "x"))
    sleeper = export.another()
    slow = Exporter(sleeper.exports, Sleeper(sleeper.outputs), sleeper.datasets)
    (lease,) = await export.claimed()
    zombie = asyncio.create_task(slow.write(lease))
    await slow.outputs.asleep.wait()
    await export.insert(source, ("2", "x"))
    await eventually(export.write)
    newest, writes = await export.users(), export.writes("csv")
    assert {"1", "2"} <= newest
    slow.outputs.awake.set()
    with pytest.raises(LeaseLost):
        await zombie
    assert await export.users() == newest
    assert export.writes("csv") == writes
    assert (await export.state())["written"] == (await export.state())["changed"]


async def test_repeat_after_crash_before_mark_writes_no_second_version(export, monkeypatch):
    await export.insert(await export.source("a.csv"), ("1", "x"))
    with monkeypatch.context() as patched:

        async def die(*_):
            raise RuntimeError("killed")

        patched.setattr(Exports, "mark_written", die)
        (lease,) = await export.claimed()
        with pytest.raises(RuntimeError, match="killed"):
            await export.exporter.write(lease)
    assert (await export.state())["written"] == 0
    await export.exporter.write(lease)
    assert (await export.state())["written"] > 0
    assert (export.writes("csv"), export.writes("parquet")) == (1, 1)


async def test_change_during_write_keeps_files_behind(export, monkeypatch):
    source = await export.source("a.csv")
    await export.insert(source, ("1", "x"))
    mark = Exports.mark_written

    async def change_first(self, *args):
        monkeypatch.setattr(Exports, "mark_written", mark)
        await export.insert(source, ("2", "x"))
        await mark(self, *args)

    monkeypatch.setattr(Exports, "mark_written", change_first)
    await export.write()
    state = await export.state()
    assert state["written"] == state["changed"] - 1
    assert state["dirty_since"] < state["changed_at"]
    assert await export.write() == 1
    assert await export.users() == {"1", "2"}
    assert (await export.state())["dirty_since"] is None


async def test_change_during_write_is_enqueued_afterwards(export, monkeypatch):
    source = await export.source("a.csv")
    await export.insert(source, ("1", "x"))
    await export.exporter._enqueue_due()
    (item,) = await export.queue.claim("test", 2)
    mark = Exports.mark_written

    async def change_first(self, *args):
        await export.insert(source, ("2", "x"))
        await export.exporter._enqueue_due()
        await mark(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Exports, "mark_written", change_first)
        await export.exporter.write(Lease(item))
    assert await export.queue.claim("test", 2) == []
    await export.exporter._enqueue_due()
    assert len(await export.queue.claim("test", 2)) == 1


async def test_failed_export_is_enqueued_again_only_after_delay(export, monkeypatch):
    await export.insert(await export.source("a.csv"), ("1", "x"))
    await export.exporter._enqueue_due()
    (item,) = await export.queue.claim("test", 2)
    await export.queue.fail(item, "no bucket", retry_in=None)
    await export.exporter._enqueue_due()
    assert await export.queue.claim("test", 2) == []
    monkeypatch.setattr("services.etl.workers.exporter.REQUEST_AGAIN_SECONDS", -1.0)
    await export.exporter._enqueue_due()
    assert len(await export.queue.claim("test", 2)) == 1


async def test_abandoned_multipart_uploads_are_aborted(export):
    ref = ObjectRef(export.bucket, f"{export.dataset.name}.csv")
    async with open_store(export.settings) as other:
        writing = other.write(ref)
        writer = await writing.__aenter__()
        await writer.write(bytes(6 << 20))
        await writer._wait_for_parts(at_most=0)
    # its journal is closed as when its process had died; nobody removed its parts
    assert export.boto.list_multipart_uploads(Bucket=export.bucket, Prefix=ref.key).get("Uploads")
    await export.exporter.outputs.abort_abandoned()
    assert not export.boto.list_multipart_uploads(Bucket=export.bucket, Prefix=ref.key).get("Uploads")


async def test_removed_or_changed_output_files_are_restored(export):
    await export.insert(await export.source("a.csv"), ("1", "x"))
    await export.write()
    await export.exporter._repair()
    assert await export.write() == 0
    await export.store.delete(ObjectRef(export.bucket, f"{export.dataset.name}.csv"))
    await export.exporter._repair()
    assert await export.write() == 1
    assert await export.users() == {"1"}
    await export.store.put(ObjectRef(export.bucket, f"{export.dataset.name}.parquet"), b"nonsense")
    await export.exporter._repair()
    assert await export.write() == 1
    assert await export.users() == {"1"}


async def test_rejects_file_exists_only_while_there_are_rejects(export):
    source = await export.source("bad.csv")
    await export.reject(source, (7, "name", "=1+1", "BLANK", 'two\nlines, "quoted"'), (2, "", "", "RAGGED", "3 cells"))
    await export.write()
    assert await export.rejects("bad.csv") == [
        ["row", "column", "value", "code", "reason"],
        ["2", "", "", "RAGGED", "3 cells"],
        ["7", "name", "'=1+1", "BLANK", 'two\nlines, "quoted"'],
    ]
    assert await export.pool.fetchval("SELECT has_rejects_file AND NOT is_stale FROM etl.sources WHERE id = $1", source)
    await export.reject(source)
    await export.write()
    assert await export.rejects("bad.csv") is None
    assert (
        await export.pool.fetchval("SELECT has_rejects_file OR is_stale FROM etl.sources WHERE id = $1", source)
        is False
    )


async def test_rejects_of_long_or_clashing_key_are_written(export):
    keys = [
        "a",
        "a.csv/b",
        f"{'ü' * 125}.csv",
        "/".join(["x" * 200] * 5)[: 1015 - len(export.dataset.name)],
        "ä ö+%25?#&",
    ]
    for number, key in enumerate(keys):
        await export.reject(await export.source(key), (number, "", "", "BAD", key))
    await export.write()
    pages = [page async for page in export.store.list(export.bucket, prefix="rejects/")]
    bodies = [(await export.store.read(info.ref))[1].decode() for page in pages for info in page]
    assert sorted(next(csv.DictReader(io.StringIO(body)))["reason"] for body in bodies) == sorted(keys)


async def test_rejects_changed_during_write_are_rewritten(export, monkeypatch):
    source = await export.source("bad.csv")
    await export.reject(source, (1, "", "", "OLD", "old"))
    settle = Exports.mark_rejects_written

    async def change_first(self, *args):
        monkeypatch.setattr(Exports, "mark_rejects_written", settle)
        await export.reject(source, (1, "", "", "NEW", "new"))
        await settle(self, *args)

    monkeypatch.setattr(Exports, "mark_rejects_written", change_first)
    await export.write()
    await export.write()
    assert (await export.rejects("bad.csv"))[1][-1] == "new"
    assert await export.write() == 0


async def test_all_of_many_rejects_files_are_written(export):
    for number in range(120):
        await export.reject(await export.source(f"{number}.csv"), (1, "", "", "BAD", str(number)))
    await export.write()
    assert [(await export.rejects(f"{number}.csv"))[1][-1] for number in (0, 49, 50, 119)] == ["0", "49", "50", "119"]


async def test_export_of_unknown_dataset_is_left_to_another_process(export):
    await export.insert(await export.source("a.csv"), ("1", "x"))
    (lease,) = await export.claimed()
    stranger = Exporter(export.exporter.exports, export.exporter.outputs, Datasets({}))
    with pytest.raises(PenstockError, match="file of datasets"):
        await stranger.write(lease)


async def test_folders_of_killed_processes_are_deleted(export, monkeypatch):
    left = Path(export.settings.state_dir) / "exports" / "left"
    left.mkdir(parents=True)
    (left / "cells.csv").write_text("x")
    monkeypatch.setattr("services.etl.adapters.exports.ABANDONED_SECONDS", -60.0)
    await export.insert(await export.source("a.csv"), ("1", "x"))
    await export.write()
    assert not left.exists()
