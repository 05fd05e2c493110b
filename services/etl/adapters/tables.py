"""Read known objects before the bucket is read, and write rows, images and rejects under a fence afterwards."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

import asyncpg
import polars as pl

from services.etl.adapters import statements as sql
from services.etl.core.datasets import Dataset, item_of
from services.etl.core.diff import truncate_to_second
from services.etl.core.values import LINE, SOURCE, CheckedRows, FetchedFile, FileToLoad, KnownObject, RejectedRow
from shared.postgres import Connection, Pool
from shared.storage import ObjectInfo

ObjectKey = tuple[str, str]
PIECE_BYTES: Final = 512 << 10
LONG_SECONDS: Final = 1800.0
"""Timeout of a statement for a large file."""
MAX_PIXELS: Final = 2**31 - 1
"""The largest width or height that PNG allows."""
MAX_HASHED_KEYS: Final = 4_000_000
"""Maximum number of key hashes in memory, 8 bytes each."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """What was written for one object."""

    fetched: FetchedFile
    rows: int = 0
    rejected: int = 0
    reason: str = ""


class Tables:
    """Known objects, and their rows, images and rejects."""

    def __init__(self, pool: Pool, *, max_stored_rejects: int) -> None:
        self._pool = pool
        self._max_stored_rejects = max_stored_rejects

    async def get_known(self, files: Sequence[FileToLoad]) -> dict[ObjectKey, KnownObject]:
        """Return the known state of each object; the default for unknown ones."""
        object_keys = zip(*(one.object_key for one in files), strict=True)
        rows = await self._pool.fetch(sql.GET_KNOWN, *object_keys)
        known = {(row["bucket"], row["key"]): row for row in rows}
        return {one.object_key: _known(known.get(one.object_key), one.dataset) for one in files}

    async def diff_listing(
        self, dataset: Dataset, page: Sequence[ObjectInfo], *, after: str, upto: str | None, correlation_id: str
    ) -> list[FileToLoad]:
        """Compare a page of a listing with the known objects; keys after `after`, up to and including `upto`."""
        listed = [(one.ref.key, one.etag, truncate_to_second(one.last_modified), one.size) for one in page]
        rows = await self._pool.fetch(
            sql.DIFF_LISTING,
            dataset.name,
            after,
            upto,
            dataset.bucket,
            *(zip(*listed, strict=True) if listed else [()] * 4),
        )
        return [
            FileToLoad(
                dataset.bucket,
                row["key"],
                dataset,
                kind,
                size=row["size"],
                etag=row["etag"],
                stored_at=row["stored_at"],
                correlation_id=correlation_id,
            )
            for row in rows
            if (kind := dataset.kind_of(dataset.bucket, row["key"]))
        ]

    async def write(self, dataset: Dataset, fetched: Sequence[FetchedFile], checked: CheckedRows) -> list[WrittenFile]:
        """Write the fetched files; return those that no other process wrote since `get_known`."""
        async with self.transaction(dataset) as transaction:
            await transaction.add(checked)
            return await transaction.apply(fetched)

    @asynccontextmanager
    async def transaction(self, dataset: Dataset) -> AsyncIterator["LoadTransaction"]:
        """Open a transaction that collects any number of rows before they are applied."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(sql.create_staging(dataset))
            yield LoadTransaction(connection, dataset, self._max_stored_rejects)

    async def save_digests(self, claims: Mapping[ObjectKey, tuple[Dataset, str]]) -> None:
        """Store the hasher's digests of objects, by dataset and kind; their change events may arrive later."""
        objects = [
            {"bucket": bucket, "key": key, "dataset": dataset.name, "kind": kind}
            for (bucket, key), (dataset, kind) in claims.items()
        ]
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(sql.SAVE_DIGESTS, objects)
            for name in sorted({row["dataset"] for row in rows if row["kind"] == "image"}):
                await connection.execute(sql.BUMP_EXPORT, name)

    async def note_failure(self, file: FileToLoad, reason: str) -> None:
        """Store why an object could not be loaded; the next successful load clears it."""
        one = (*file.object_key, file.dataset.name, file.kind, reason, file.correlation_id)
        await self._pool.execute(sql.NOTE_FAILURE, *one)

    async def purge(self, dataset: Dataset) -> None:
        """Delete objects that were removed more than a day ago."""
        await self._pool.execute(sql.PURGE, dataset.name)


class KeyHashes:
    """Hashes of all keys of a load; if they are unique, no duplicates have to be searched in the database."""

    def __init__(self) -> None:
        self._hashes: list[pl.Series] = []
        self._count = 0

    def add(self, keys: pl.DataFrame) -> None:
        """Add the hashes of keys."""
        self._count += keys.height
        if self._count <= MAX_HASHED_KEYS:
            self._hashes.append(keys.hash_rows())

    def may_repeat(self) -> bool:
        """Return whether a key may be duplicated."""
        if self._count > MAX_HASHED_KEYS:
            return True
        return bool(self._hashes) and pl.concat(self._hashes).n_unique() < self._count

    def clear(self) -> None:
        """Remove all hashes."""
        self._hashes, self._count = [], 0


@dataclass(slots=True)
class LoadTransaction:
    """Collects and applies the rows of a load; SOURCE and `RejectedRow.source` are positions in `apply(fetched)`."""

    connection: Connection
    dataset: Dataset
    max_stored_rejects: int
    rows: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)
    stored_rejects: dict[int, list[RejectedRow]] = field(default_factory=lambda: defaultdict(list))
    keys: KeyHashes = field(default_factory=KeyHashes)

    async def add(self, checked: CheckedRows) -> None:
        """Copy rows into the staging table, and count rejects."""
        self.reject(checked.rejects)
        if checked.good.is_empty():
            return
        self.keys.add(checked.good.select(SOURCE, self.dataset.key))
        for source, count in checked.good.group_by(SOURCE).len().iter_rows():
            self.rows[source] += count
        body = BytesIO()
        columns = [SOURCE, LINE, *self.dataset.fields]
        checked.good.select(columns).write_csv(body, include_header=False)
        await self.connection.copy_to_table(
            sql.staging_name(self.dataset), source=_pieces(body), columns=columns, format="csv", timeout=LONG_SECONDS
        )

    async def discard(self) -> None:
        """Drop all collected rows and rejects, because the file as a whole is rejected."""
        await self.connection.execute(sql.truncate_staging(self.dataset))
        for counts in (self.rows, self.rejected, self.stored_rejects, self.keys):
            counts.clear()

    def reject(self, rejects: Iterable[RejectedRow], source: int | None = None) -> None:
        """Count rejects and store the first ones of each source."""
        for one in rejects:
            position = one.source if source is None else source
            self.rejected[position] += 1
            if len(self.stored_rejects[position]) < self.max_stored_rejects:
                self.stored_rejects[position].append(one)

    async def apply(self, fetched: Sequence[FetchedFile]) -> list[WrittenFile]:
        """Write the fetched files; return those that no other process wrote since `get_known`."""
        for position, one in enumerate(fetched):
            self.reject([*one.rejects, *one.rows.rejects], position)
        if self.keys.may_repeat():
            await self._reject_duplicates()
        ids = await self._upsert_sources(fetched)
        written = [
            (position, ids[one.file.object_key]) for position, one in enumerate(fetched) if one.file.object_key in ids
        ]
        if not written:
            return []
        await self._clear(fetched, written)
        await self._apply_rows(fetched, written)
        await self._apply_images(fetched, written)
        await self._apply_rejects(written)
        await self.connection.execute(sql.BUMP_EXPORT, self.dataset.name)
        return [
            WrittenFile(fetched[position], self.rows[position], self.rejected[position], self._reason(position))
            for position, _ in written
        ]

    def _reason(self, position: int) -> str:
        first = min(self.stored_rejects[position], key=lambda one: one.line, default=None)
        return first.reason if first else ""

    async def _reject_duplicates(self) -> None:
        """Reject all but the first row of each key of a file."""
        rows = await self.connection.fetch(
            sql.reject_duplicates(self.dataset), self.max_stored_rejects, timeout=LONG_SECONDS
        )
        for row in rows:
            source, key, first = row["source"], row["key"], row["first"]
            reason = f"{self.dataset.key} {key} is already in line {first}; keep one row for each"
            if row["rank"] == 1:
                self.rows[source] -= row["duplicates"]
                self.rejected[source] += row["duplicates"] - 1
            else:
                self.rejected[source] -= 1
            self.reject([RejectedRow(row["line"], "DUPLICATE_KEY", reason, self.dataset.key, key[:200])], source)

    async def _upsert_sources(self, fetched: Sequence[FetchedFile]) -> dict[ObjectKey, int]:
        values = [
            (
                *one.file.object_key,
                one.file.kind,
                one.known.id,
                one.known.fence,
                one.file.revision,
                one.etag,
                one.size,
                one.stored_at,
                self.rows[position],
                self.rejected[position],
                self._reason(position),
                one.file.correlation_id,
            )
            for position, one in enumerate(fetched)
        ]
        rows = await self.connection.fetch(sql.UPSERT_SOURCES, self.dataset.name, *zip(*values, strict=True))
        return {(row["bucket"], row["key"]): row["id"] for row in rows}

    async def _clear(self, fetched: Sequence[FetchedFile], written: Sequence[tuple[int, int]]) -> None:
        """Delete rejects and images of earlier versions; the fence guarantees that `known` is current."""
        known = [(fetched[position], source) for position, source in written if fetched[position].known.id]
        rejects = [source for one, source in known if one.known.rejected]
        images = [source for one, source in known if one.file.kind == "image" and one.image is None]
        if rejects:
            await self.connection.execute(sql.DELETE_REJECTS, rejects)
        if images:
            await self.connection.execute(sql.DELETE_IMAGES, images)

    async def _apply_rows(self, fetched: Sequence[FetchedFile], written: Sequence[tuple[int, int]]) -> None:
        """Delete and insert only the rows that differ."""
        replaced = [(position, source) for position, source in written if fetched[position].known.rows]
        new = [(position, source) for position, source in written if not fetched[position].known.rows]
        if replaced:
            await self._execute_long(sql.delete_rows(self.dataset), *_columns(replaced))
        if any(self.rows[position] for position, _ in replaced):
            await self._execute_long(sql.insert_rows(self.dataset, missing=True), *_columns(replaced))
        if any(self.rows[position] for position, _ in new):
            await self._execute_long(sql.insert_rows(self.dataset, missing=False), *_columns(new))

    async def _execute_long(self, statement: str, *values: object) -> None:
        await self.connection.execute(statement, *values, timeout=LONG_SECONDS)

    async def _apply_images(self, fetched: Sequence[FetchedFile], written: Sequence[tuple[int, int]]) -> None:
        images = [
            (
                source,
                item_of(fetched[position].file.key),
                image.content_type,
                _valid_side(image.width),
                _valid_side(image.height),
            )
            for position, source in written
            if (image := fetched[position].image) is not None
        ]
        if images:
            await self.connection.execute(sql.UPSERT_IMAGES, self.dataset.name, *_columns(images))

    async def _apply_rejects(self, written: Sequence[tuple[int, int]]) -> None:
        rejects = [
            (source, one.line, one.column, one.value, one.code, one.reason)
            for position, source in written
            for row in sorted(self.stored_rejects[position], key=lambda one: one.line)
            for one in (row, *row.more)
        ]
        if rejects:
            await self.connection.execute(sql.INSERT_REJECTS, *_columns(rejects))


async def _pieces(body: BytesIO) -> AsyncIterator[bytes]:
    """Yield `body` in pieces.

    Given a file object, asyncpg creates a class per call, which only the cycle collector frees; until then each body
    of a large load would stay in memory.
    """
    body.seek(0)
    while piece := body.read(PIECE_BYTES):
        yield piece


def _valid_side(pixels: int | None) -> int | None:
    """Return a width or height; None if no image format allows it."""
    return pixels if pixels is not None and pixels <= MAX_PIXELS else None


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True))


def _known(row: asyncpg.Record | None, dataset: Dataset) -> KnownObject:
    """Convert a row of etl.sources; if it belongs to another dataset, only id, fence and rejects matter."""
    if row is None:
        return KnownObject()
    if row["dataset"] != dataset.name:
        return KnownObject(row["id"], row["fence"], rejected=row["rejected"], failure=row["failure"])
    return KnownObject(**{name: row[name] for name in KnownObject.__slots__})
