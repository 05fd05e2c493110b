"""Create and change the tables and views that the dataset file declares."""

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


_MARK_CHANGED: Final = """
insert into etl.exports as mine (dataset) values ($1) on conflict (dataset) do update set
    changed = mine.changed + 1, changed_at = clock_timestamp(), dirty_since = coalesce(mine.dirty_since, now())
"""

# Forget the sources of a dropped table; the higher fence stops writers that have read the old ones.
_RESET_SOURCES: Final = """
with reset as (
    update etl.sources set
        fence = fence + 1, revision = 0, etag = null, rows = 0, rejected = 0, reason = '',
        is_stale = is_stale or has_rejects_file, loaded_at = clock_timestamp(), failure = '', failed_at = null
    where dataset = $1 returning id
), images as (
    delete from etl.images using reset where images.source_id = reset.id
)
delete from etl.rejects using reset where rejects.source_id = reset.id
"""

_NOTE_REFUSED: Final = "insert into etl.refused (name, reason) select * from unnest($1::text[], $2::text[])"


async def ensure_schema(dsn: SecretStr) -> None:
    """Migrate schema `etl`, after schema `work`, which its views read."""
    await migrate(dsn, "work", MIGRATIONS)
    await migrate(dsn, "etl", "services.etl.migrations")


async def ensure_tables(pool: Pool, datasets: Datasets) -> list[str]:
    """Create each dataset's table and view; return the datasets that must be loaded again.

    A table whose columns changed is dropped and created again: its rows are in the bucket. Names come from Dataset,
    which allows nothing that needs quoting except reserved words. The lock timeout is short and the change retried,
    because a waiting ALTER would block all readers behind it.

    A dataset whose table Postgres does not accept is refused without affecting the others; `api.datasets` shows it.

    Raises:
        InvalidDatasets: no dataset is left.

    """

    async def ensure() -> list[str]:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
            await connection.execute("select pg_advisory_xact_lock(hashtextextended('penstock.etl.schema', 0))")
            # the service's role owns the tables, even if an operator runs etl as another role
            await act_as(connection, "penstock_etl", schemas=[])
            created = [
                dataset.name
                for dataset in tuple(datasets.by_name.values())
                if await _ensure_or_refuse(connection, dataset, datasets)
            ]
            await _note_refused(connection, datasets)
            return created

    created = await retry_outages(ensure, event="etl.tables_not_created")
    for name, reason in datasets.refused.items():
        log.error("etl.dataset_refused", dataset=visible(name), reason=reason)
    datasets.require_any()
    return created


async def _ensure_or_refuse(connection: Connection, dataset: Dataset, datasets: Datasets) -> bool:
    """Create one dataset's table; refuse the dataset if Postgres rejects the table."""
    try:
        async with connection.transaction():
            return await _ensure_table(connection, dataset)
    except asyncpg.PostgresError as error:
        if is_outage(error):
            raise
        reason = f"[{dataset.name}] Postgres takes no such table: {one_line(error)}; call what it names something else"
        datasets.refuse(dataset.name, reason)
        return False


async def _note_refused(connection: Connection, datasets: Datasets) -> None:
    """Replace the stored list of refused sections."""
    refused = {visible(name): reason for name, reason in datasets.refused.items()}
    await connection.execute("delete from etl.refused")
    await connection.execute(_NOTE_REFUSED, list(refused), list(refused.values()))


async def _ensure_table(connection: Connection, dataset: Dataset) -> bool:
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
    await connection.execute(_MARK_CHANGED, dataset.name)
    await connection.execute(f'drop view if exists api."{dataset.name}"; drop table if exists etl."{dataset.name}"')
    await connection.execute(_RESET_SOURCES, dataset.name)
    await connection.execute(_table_ddl(dataset))
    await connection.execute(view_ddl(dataset))
    log.info("etl.table_created", dataset=dataset.name, recreated=before is not None)
    return True


def _table_ddl(dataset: Dataset) -> str:
    columns = ", ".join(f'"{name}" {SQL_TYPES[column.type]}' for name, column in dataset.columns.items())
    return f"""
        create table etl."{dataset.name}" (
            "{dataset.key}" text collate "C" not null, {columns},
            source_id bigint not null, line bigint not null,
            primary key ("{dataset.key}", source_id)
        );
        create index "{dataset.name}_by_source" on etl."{dataset.name}" (source_id);
    """


def view_ddl(dataset: Dataset) -> str:
    """Return the DDL of the view, which shows the row and the image that were stored last.

    Rows and images are joined only here, so they can arrive in any order.
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
            select image_file.bucket || '/' || image_file.key as path, found.content_type, found.width, found.height,
                   case when image_file.hashed_etag = image_file.etag then image_file.digests ->> 'sha256' end as sha256
            from etl.images as found join etl.sources as image_file on image_file.id = found.source_id
            where found.dataset = '{dataset.name}' and found.item = latest."{dataset.key}"
            order by image_file.stored_at desc, image_file.key limit 1
        ) as image on true
    """  # noqa: S608 - Dataset validated the names
