"""The tables and views that the file of datasets asks for, made and changed with it."""

import json
from collections.abc import Mapping
from typing import Final

import asyncpg
import structlog
from pydantic import SecretStr

from services.etl.core.datasets import ColumnType, Dataset, Datasets
from shared.errors import one_line
from shared.outages import is_outage, retry_outages
from shared.postgres import LOCK_SECONDS, Connection, Pool, act_as, migrate
from shared.text import visible
from shared.work import MIGRATIONS

log = structlog.get_logger()

SQL_TYPES: Final[Mapping[ColumnType, str]] = {
    "text": "text",
    "integer": "bigint",
    "number": "double precision",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamptz",
    "milliseconds": "bigint",
}


_SHOW_ANEW: Final = """
insert into etl.exports as mine (dataset) values ($1) on conflict (dataset) do update set
    changed = mine.changed + 1, changed_at = clock_timestamp(), dirty_since = coalesce(mine.dirty_since, now())
"""

# What stood in the table before comes to nothing, whoever is just about to write it; files of rejects go with it.
_READ_ANEW: Final = """
with anew as (
    update etl.sources set
        fence = fence + 1, revision = 0, etag = null, rows = 0, rejected = 0, reason = '',
        is_stale = is_stale or has_rejects_file, loaded_at = clock_timestamp(), failure = '', failed_at = null
    where dataset = $1 returning id
), images as (
    delete from etl.images using anew where images.source_id = anew.id
)
delete from etl.rejects using anew where rejects.source_id = anew.id
"""

_NOTE_REFUSED: Final = "insert into etl.refused (name, reason) select * from unnest($1::text[], $2::text[])"


async def ensure_schema(dsn: SecretStr) -> None:
    """Bring schema `etl` up to date, and before it that of leased work, of which its views tell."""
    await migrate(dsn, "work", MIGRATIONS)
    await migrate(dsn, "etl", "services.etl.migrations")


async def ensure_tables(pool: Pool, datasets: Datasets) -> list[str]:
    """Make each dataset's table and view; return the datasets that have to be read anew.

    A table whose columns changed is dropped and made again: its rows are in the bucket. Names come from Dataset,
    which takes nothing that would need quoting but reserved words. While a reader holds a view that has to change, it
    tries again: a change that waited for its lock would keep all other readers waiting behind it.

    A dataset that Postgres takes no table of is refused alone; what is refused shows in `api.datasets`.

    Raises:
        BadDatasets: none is left.

    """

    async def ensure() -> list[str]:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
            await connection.execute("select pg_advisory_xact_lock(hashtextextended('penstock.etl.schema', 0))")
            # whoever runs etl by hand leaves tables that the service can change
            await act_as(connection, "penstock_etl", schemas=[])
            made = [
                one.name for one in tuple(datasets.by_name.values()) if await _ensure_alone(connection, one, datasets)
            ]
            await _note_refused(connection, datasets)
            return made

    made = await retry_outages(ensure, event="etl.tables_not_made")
    for name, reason in datasets.refused.items():
        log.error("etl.dataset_refused", dataset=visible(name), reason=reason)
    datasets.require_any()
    return made


async def _ensure_alone(connection: Connection, dataset: Dataset, datasets: Datasets) -> bool:
    """Make one dataset's table; what Postgres refuses of it costs no other dataset its own."""
    try:
        async with connection.transaction():
            return await _ensure(connection, dataset)
    except asyncpg.PostgresError as error:
        if is_outage(error):
            raise
        reason = f"[{dataset.name}] Postgres takes no such table: {one_line(error)}; call what it names something else"
        datasets.refuse(dataset.name, reason)
        return False


async def _note_refused(connection: Connection, datasets: Datasets) -> None:
    """Say which sections of the file cannot be used now; what was refused before may be no more."""
    refused = {visible(name): reason for name, reason in datasets.refused.items()}
    await connection.execute("delete from etl.refused")
    await connection.execute(_NOTE_REFUSED, list(refused), list(refused.values()))


async def _ensure(connection: Connection, dataset: Dataset) -> bool:
    definition = json.loads(dataset.model_dump_json())
    before = await connection.fetchval("select definition from etl.datasets where name = $1", dataset.name)
    if before == definition:
        return False
    await connection.execute(
        "insert into etl.datasets (name, definition) values ($1, $2)"
        " on conflict (name) do update set definition = excluded.definition, updated_at = clock_timestamp()",
        dataset.name,
        definition,
    )
    await connection.execute(_SHOW_ANEW, dataset.name)
    await connection.execute(f'drop view if exists api."{dataset.name}"; drop table if exists etl."{dataset.name}"')
    await connection.execute(_READ_ANEW, dataset.name)
    await connection.execute(_table(dataset))
    await connection.execute(view_of(dataset))
    log.info("etl.table_made", dataset=dataset.name, again=before is not None)
    return True


def _table(dataset: Dataset) -> str:
    columns = ", ".join(f'"{name}" {SQL_TYPES[column.type]}' for name, column in dataset.columns.items())
    return f"""
        create table etl."{dataset.name}" (
            "{dataset.key}" text collate "C" not null, {columns},
            source_id bigint not null, line bigint not null,
            primary key ("{dataset.key}", source_id)
        );
        create index "{dataset.name}_by_source" on etl."{dataset.name}" (source_id);
    """


def view_of(dataset: Dataset) -> str:
    """Write the view: of several files with a row, and of several images, the one that was stored last counts.

    Rows and images meet here alone, so neither has to wait for the other, and none has to be taken back.
    """
    columns = "".join(f', row."{name}"' for name in dataset.columns)
    outer = "".join(f', latest."{name}"' for name in dataset.columns)
    return f"""
        create view api."{dataset.name}" as
        select latest."{dataset.key}"{outer}, coalesce(image.path, '') as img_path, image.content_type as img_type,
               image.width as img_width, image.height as img_height, image.sha256 as img_sha256,
               latest.source, latest.loaded_at
        from (
            select distinct on (row."{dataset.key}") row."{dataset.key}"{columns},
                   file.bucket || '/' || file.key as source, file.loaded_at
            from etl."{dataset.name}" as row join etl.sources as file on file.id = row.source_id
            order by row."{dataset.key}", file.stored_at desc, file.key
        ) as latest
        left join lateral (
            select picture.bucket || '/' || picture.key as path, seen.content_type, seen.width, seen.height,
                   case when picture.hashed_etag = picture.etag then picture.digests ->> 'sha256' end as sha256
            from etl.images as seen join etl.sources as picture on picture.id = seen.source_id
            where seen.dataset = '{dataset.name}' and seen.item = latest."{dataset.key}"
            order by picture.stored_at desc, picture.key limit 1
        ) as image on true
    """  # noqa: S608 - names that Dataset checked
