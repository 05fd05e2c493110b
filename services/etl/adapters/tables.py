"""`etl.sources` and the tables that follow: recalled before a look at the bucket, written under a fence after it."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

import asyncpg
import polars as pl

from services.etl.adapters import statements as sql
from services.etl.core.datasets import Dataset, item_of
from services.etl.core.differences import to_the_second
from services.etl.core.values import LINE, SOURCE, Checked, Found, Known, Reject, Wanted
from shared.events import ObjectHashed
from shared.postgres import Connection, Pool
from shared.storage import ObjectInfo

Place = tuple[str, str]
PIECE_BYTES: Final = 512 << 10
LONG_SECONDS: Final = 1800.0
"""How long a statement about a large file may take."""
MOST_PIXELS: Final = 2**31 - 1
"""Of a side of a PNG, the largest that there is."""
KEYS_HASHED: Final = 4_000_000
"""Rows up to which hashes of all keys are held, 8 bytes each."""


@dataclass(frozen=True, slots=True)
class Written:
    """What now stands in the tables of one object."""

    found: Found
    rows: int = 0
    rejected: int = 0
    reason: str = ""


class Tables:
    """What is known of objects, and the rows, images and rejects that came of them."""

    def __init__(self, pool: Pool, *, rejects_kept: int) -> None:
        self._pool = pool
        self._rejects_kept = rejects_kept

    async def recall(self, wanted: Sequence[Wanted]) -> dict[Place, Known]:
        """Return what is known of each; of what is not known, the default."""
        places = zip(*(one.place for one in wanted), strict=True)
        rows = await self._pool.fetch(sql.RECALL, *places)
        known = {(row["bucket"], row["key"]): row for row in rows}
        return {one.place: _known(known.get(one.place), one.dataset) for one in wanted}

    async def differing(
        self, dataset: Dataset, page: Sequence[ObjectInfo], *, after: str, upto: str | None, correlation_id: str
    ) -> list[Wanted]:
        """Compare a page of a listing with what is known of the keys behind `after`, up to and with `upto`."""
        listed = [(one.ref.key, one.etag, to_the_second(one.last_modified), one.size) for one in page]
        rows = await self._pool.fetch(
            sql.DIFFERING,
            dataset.name,
            after,
            upto,
            dataset.bucket,
            *(zip(*listed, strict=True) if listed else [()] * 4),
        )
        return [
            Wanted(
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

    async def write(self, dataset: Dataset, found: Sequence[Found], checked: Checked) -> list[Written]:
        """Write what follows from each of `found` that nobody wrote since it was recalled; return those."""
        async with self.filling(dataset) as filling:
            await filling.add(checked)
            return await filling.apply(found)

    @asynccontextmanager
    async def filling(self, dataset: Dataset) -> AsyncIterator["Filling"]:
        """Give a transaction into which rows may be filled, as many as there are, before they are applied."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(sql.filling_table(dataset))
            yield Filling(connection, dataset, self._rejects_kept)

    async def keep_digests(self, hashed: Sequence[tuple[ObjectHashed, Dataset, str]]) -> None:
        """Store the digests that the hasher has of the objects of `hashed`, also before an object's change arrives."""
        facts = [
            {"bucket": fact.bucket, "key": fact.key, "dataset": dataset.name, "kind": kind}
            for fact, dataset, kind in hashed
        ]
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(sql.KEEP_DIGESTS, facts)
            for name in sorted({row["dataset"] for row in rows if row["kind"] == "image"}):
                await connection.execute(sql.BUMP_EXPORT, name)

    async def note_failure(self, wanted: Wanted, reason: str) -> None:
        """Note why an object could not be loaded; the next load of it that succeeds takes that back."""
        one = (*wanted.place, wanted.dataset.name, wanted.kind, reason, wanted.correlation_id)
        await self._pool.execute(sql.NOTE_FAILURE, *one)

    async def purge(self, dataset: Dataset) -> None:
        """Forget what is gone for a day."""
        await self._pool.execute(sql.PURGE, dataset.name)


class Keys:
    """Hashes of the keys of a filling: where none comes twice, no key does, and the database need not be asked."""

    def __init__(self) -> None:
        self._hashes: list[pl.Series] = []
        self._count = 0

    def add(self, keys: pl.DataFrame) -> None:
        """Take more keys."""
        self._count += keys.height
        if self._count <= KEYS_HASHED:
            self._hashes.append(keys.hash_rows())

    def may_repeat(self) -> bool:
        """Say whether some key may have come twice."""
        if self._count > KEYS_HASHED:
            return True
        return bool(self._hashes) and pl.concat(self._hashes).n_unique() < self._count

    def clear(self) -> None:
        """Forget all."""
        self._hashes, self._count = [], 0


@dataclass(slots=True)
class Filling:
    """Rows on their way into a table; SOURCE and `Reject.source` are positions in what is applied in the end."""

    connection: Connection
    dataset: Dataset
    rejects_kept: int
    rows: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)
    kept: dict[int, list[Reject]] = field(default_factory=lambda: defaultdict(list))
    keys: Keys = field(default_factory=Keys)

    async def add(self, checked: Checked) -> None:
        """Take rows and rejects."""
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
            sql.filling_name(self.dataset), source=_pieces(body), columns=columns, format="csv", timeout=LONG_SECONDS
        )

    async def discard(self) -> None:
        """Let go of all that was taken: the file as a whole is none."""
        await self.connection.execute(sql.empty_filling(self.dataset))
        for taken in (self.rows, self.rejected, self.kept, self.keys):
            taken.clear()

    def reject(self, rejects: Iterable[Reject], source: int | None = None) -> None:
        """Count rejects and keep the first ones of each source."""
        for one in rejects:
            position = one.source if source is None else source
            self.rejected[position] += 1
            if len(self.kept[position]) < self.rejects_kept:
                self.kept[position].append(one)

    async def apply(self, found: Sequence[Found]) -> list[Written]:
        """Make the tables follow `found`, and return those that nobody wrote since they were recalled."""
        for position, one in enumerate(found):
            self.reject([*one.rejects, *one.rows.rejects], position)
        if self.keys.may_repeat():
            await self._refuse_duplicates()
        ids = await self._upsert_sources(found)
        written = [(position, ids[one.wanted.place]) for position, one in enumerate(found) if one.wanted.place in ids]
        if not written:
            return []
        await self._clear(found, written)
        await self._apply_rows(found, written)
        await self._apply_images(found, written)
        await self._apply_rejects(written)
        await self.connection.execute(sql.BUMP_EXPORT, self.dataset.name)
        return [
            Written(found[position], self.rows[position], self.rejected[position], self._reason(position))
            for position, _ in written
        ]

    def _reason(self, position: int) -> str:
        first = min(self.kept[position], key=lambda one: one.line, default=None)
        return first.reason if first else ""

    async def _refuse_duplicates(self) -> None:
        """Of several rows of a file with one key the first counts."""
        rows = await self.connection.fetch(sql.refuse_duplicates(self.dataset), self.rejects_kept, timeout=LONG_SECONDS)
        for row in rows:
            source, key, first = row["source"], row["key"], row["first"]
            reason = f"{self.dataset.key} {key} stands in line {first} already; a file has one row for each"
            if row["place"] == 1:
                self.rows[source] -= row["doubles"]
                self.rejected[source] += row["doubles"] - 1
            else:
                self.rejected[source] -= 1
            self.reject([Reject(row["line"], "DUPLICATE_KEY", reason, self.dataset.key, key[:200])], source)

    async def _upsert_sources(self, found: Sequence[Found]) -> dict[Place, int]:
        told = [
            (
                *one.wanted.place,
                one.wanted.kind,
                one.known.id,
                one.known.fence,
                one.wanted.revision,
                one.etag,
                one.size,
                one.stored_at,
                self.rows[position],
                self.rejected[position],
                self._reason(position),
                one.wanted.correlation_id,
            )
            for position, one in enumerate(found)
        ]
        rows = await self.connection.fetch(sql.UPSERT_SOURCES, self.dataset.name, *zip(*told, strict=True))
        return {(row["bucket"], row["key"]): row["id"] for row in rows}

    async def _clear(self, found: Sequence[Found], written: Sequence[tuple[int, int]]) -> None:
        """Take away what came of earlier versions and does not of this one; the fence proves what there was."""
        known = [(found[position], source) for position, source in written if found[position].known.id]
        rejects = [source for one, source in known if one.known.rejected]
        images = [source for one, source in known if one.wanted.kind == "image" and one.picture is None]
        if rejects:
            await self.connection.execute(sql.DELETE_REJECTS, rejects)
        if images:
            await self.connection.execute(sql.DELETE_IMAGES, images)

    async def _apply_rows(self, found: Sequence[Found], written: Sequence[tuple[int, int]]) -> None:
        """Delete and insert what differs: rows that stand as they are, are not touched."""
        old = [(position, source) for position, source in written if found[position].known.rows]
        fresh = [(position, source) for position, source in written if not found[position].known.rows]
        if old:
            await self._execute_long(sql.delete_rows(self.dataset), *_columns(old))
        if any(self.rows[position] for position, _ in old):
            await self._execute_long(sql.insert_rows(self.dataset, missing=True), *_columns(old))
        if any(self.rows[position] for position, _ in fresh):
            await self._execute_long(sql.insert_rows(self.dataset, missing=False), *_columns(fresh))

    async def _execute_long(self, statement: str, *values: object) -> None:
        await self.connection.execute(statement, *values, timeout=LONG_SECONDS)

    async def _apply_images(self, found: Sequence[Found], written: Sequence[tuple[int, int]]) -> None:
        images = [
            (
                source,
                item_of(found[position].wanted.key),
                picture.content_type,
                _side(picture.width),
                _side(picture.height),
            )
            for position, source in written
            if (picture := found[position].picture) is not None
        ]
        if images:
            await self.connection.execute(sql.UPSERT_IMAGES, self.dataset.name, *_columns(images))

    async def _apply_rejects(self, written: Sequence[tuple[int, int]]) -> None:
        rejects = [
            (source, one.line, one.column, one.value, one.code, one.reason)
            for position, source in written
            for row in sorted(self.kept[position], key=lambda one: one.line)
            for one in (row, *row.more)
        ]
        if rejects:
            await self.connection.execute(sql.INSERT_REJECTS, *_columns(rejects))


async def _pieces(body: BytesIO) -> AsyncIterator[bytes]:
    """Give all of `body`.

    From a file asyncpg would read by a class that it makes for each call, and a class is let go only by a collection of
    cycles: with it every body of a large load.
    """
    body.seek(0)
    while piece := body.read(PIECE_BYTES):
        yield piece


def _side(pixels: int | None) -> int | None:
    """Return a width or height; what no format allows is none."""
    return pixels if pixels is not None and pixels <= MOST_PIXELS else None


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True))


def _known(row: asyncpg.Record | None, dataset: Dataset) -> Known:
    """Read a row of etl.sources; what another dataset made of an object says nothing but its fence."""
    if row is None:
        return Known()
    if row["dataset"] != dataset.name:
        return Known(row["id"], row["fence"], rejected=row["rejected"], failure=row["failure"])
    return Known(**{name: row[name] for name in Known.__slots__})
