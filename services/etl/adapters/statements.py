"""The SQL of `adapters.tables`.

Names of columns and tables come from Dataset, which allows no quotes in names. A declared column is always qualified
by a table alias, so that it cannot be confused with a name of these statements.
"""
# ruff: noqa: S608 - Dataset validated the names

from typing import Final

from services.etl.adapters.schema import SQL_TYPES
from services.etl.core.datasets import Dataset

GET_KNOWN: Final = """
SELECT id, bucket, key, dataset, fence, revision, etag, size, stored_at, rows, rejected, reason, correlation_id, failure
FROM unnest($1::text[], $2::text[]) AS requested (bucket, key) JOIN etl.sources USING (bucket, key)
"""

# Compare the listing with the known objects for keys after $2 up to $3. A removed object that is not listed is equal.
# An object whose last load failed always differs.
DIFF_LISTING: Final = """
SELECT key, listed.etag, listed.stored_at, listed.size
FROM unnest($5::text[], $6::text[], $7::timestamptz[], $8::bigint[]) AS listed (key, etag, stored_at, size)
FULL JOIN (
    SELECT key, etag, stored_at, failure FROM etl.sources
    WHERE dataset = $1 AND bucket = $4 AND key > $2 AND ($3::text IS NULL OR key <= $3)
) AS known USING (key)
WHERE (listed.etag, listed.stored_at) IS DISTINCT FROM (known.etag, known.stored_at) OR known.failure <> ''
ORDER BY key COLLATE "C"
"""

# In key order, so that two writers never deadlock. A writer that has read a row which no longer exists is too late.
UPSERT_SOURCES: Final = """
INSERT INTO etl.sources AS mine (
    bucket, key, dataset, kind, fence, revision, etag, size, stored_at, rows, rejected, reason, is_stale,
    correlation_id
)
SELECT bucket, key, $1, kind, fence + 1, revision, etag, size, stored_at, rows, rejected, reason, rejected > 0,
       correlation_id
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::bigint[],
    $10::timestamptz[], $11::bigint[], $12::bigint[], $13::text[], $14::text[]
) AS new (
    bucket, key, kind, known_id, fence, revision, etag, size, stored_at, rows, rejected, reason, correlation_id
)
WHERE known_id = 0 OR EXISTS (SELECT FROM etl.sources AS before WHERE before.id = known_id)
ORDER BY bucket COLLATE "C", key COLLATE "C"
ON CONFLICT (bucket, key) DO UPDATE SET
    dataset = excluded.dataset, kind = excluded.kind, fence = excluded.fence,
    revision = greatest(mine.revision, excluded.revision), etag = excluded.etag, size = excluded.size,
    stored_at = excluded.stored_at, rows = excluded.rows, rejected = excluded.rejected, reason = excluded.reason,
    is_stale = mine.is_stale OR mine.rejected > 0 OR mine.has_rejects_file OR excluded.rejected > 0,
    correlation_id = excluded.correlation_id, loaded_at = clock_timestamp(), failure = '', failed_at = NULL
WHERE mine.fence = excluded.fence - 1
RETURNING id, bucket, key
"""

# Nothing else changes: the loaded rows stay, and the next load tries the object again.
NOTE_FAILURE: Final = """
INSERT INTO etl.sources AS mine (bucket, key, dataset, kind, failure, failed_at, correlation_id)
VALUES ($1, $2, $3, $4, $5, clock_timestamp(), $6)
ON CONFLICT (bucket, key) DO UPDATE SET failure = excluded.failure, failed_at = excluded.failed_at
"""

DELETE_REJECTS: Final = "DELETE FROM etl.rejects WHERE source_id = ANY($1::bigint[])"
DELETE_IMAGES: Final = "DELETE FROM etl.images WHERE source_id = ANY($1::bigint[])"

UPSERT_IMAGES: Final = """
INSERT INTO etl.images AS mine (dataset, source_id, item, content_type, width, height)
SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[], $5::integer[], $6::integer[])
ON CONFLICT (source_id) DO UPDATE SET
    dataset = excluded.dataset, item = excluded.item, content_type = excluded.content_type,
    width = excluded.width, height = excluded.height
WHERE (mine.dataset, mine.item, mine.content_type, mine.width, mine.height)
    IS DISTINCT FROM (excluded.dataset, excluded.item, excluded.content_type, excluded.width, excluded.height)
"""

INSERT_REJECTS: Final = """
INSERT INTO etl.rejects (source_id, line, "column", value, code, reason)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[])
"""

# A fact only says where to look: anybody may write one where Kafka knows no users, and the view is the hasher's own.
SAVE_DIGESTS: Final = """
INSERT INTO etl.sources AS mine (bucket, key, dataset, kind, hashed_etag, hashed_revision, digests)
SELECT claimed.bucket, claimed.key, claimed.dataset, claimed.kind, hashed.etag, hashed.revision, hashed.digests
FROM jsonb_to_recordset($1) AS claimed (bucket text, key text, dataset text, kind text)
JOIN api.digest_history AS hashed USING (bucket, key)
WHERE hashed.current AND hashed.status = 'succeeded'
ORDER BY claimed.bucket COLLATE "C", claimed.key COLLATE "C"
ON CONFLICT (bucket, key) DO UPDATE SET
    hashed_etag = excluded.hashed_etag, hashed_revision = excluded.hashed_revision, digests = excluded.digests
WHERE mine.hashed_revision <= excluded.hashed_revision
    AND (mine.hashed_etag, mine.digests) IS DISTINCT FROM (excluded.hashed_etag, excluded.digests)
RETURNING dataset, kind
"""

# The last statement of each writer, so that other writers of the dataset wait only for a commit.
BUMP_EXPORT: Final = """
UPDATE etl.exports SET
    changed = changed + 1, changed_at = clock_timestamp(), dirty_since = coalesce(dirty_since, clock_timestamp())
WHERE dataset = $1
"""

PURGE: Final = """
DELETE FROM etl.sources
WHERE dataset = $1 AND etag IS NULL AND NOT is_stale AND NOT has_rejects_file AND failure = ''
    AND loaded_at < clock_timestamp() - interval '1 day'
"""


def settings() -> str:
    """Return the settings of a transaction: enough memory to sort and hash the rows of a table."""
    return "SET LOCAL work_mem = '64MB'"


def staging_name(dataset: Dataset) -> str:
    """Return the name of a connection's temporary table."""
    return f"staging_{dataset.name}"


def create_staging(dataset: Dataset) -> str:
    """Create the temporary table that rows are copied into; it is emptied after each transaction."""
    columns = ", ".join(f'"{name}" {SQL_TYPES[column.type]}' for name, column in dataset.columns.items())
    return f"""
        {settings()};
        CREATE TEMPORARY TABLE IF NOT EXISTS "{staging_name(dataset)}" (
            source integer, line bigint, "{dataset.key}" text COLLATE "C", {columns}
        ) ON COMMIT DELETE ROWS
    """


def truncate_staging(dataset: Dataset) -> str:
    """Empty the temporary table."""
    return f'TRUNCATE "{staging_name(dataset)}"'


def reject_duplicates(dataset: Dataset) -> str:
    """Delete all but the first row of each key of each file; return the first $1 of them, and their number."""
    staging, key = staging_name(dataset), dataset.key
    return f"""
        WITH duplicated AS (
            SELECT all_rows.source, all_rows."{key}" AS key, min(all_rows.line) AS first FROM "{staging}" AS all_rows
            GROUP BY all_rows.source, all_rows."{key}" HAVING count(*) > 1
        ), gone AS (
            DELETE FROM "{staging}" AS mine USING duplicated
            WHERE mine.source = duplicated.source AND mine."{key}" = duplicated.key AND mine.line > duplicated.first
            RETURNING mine.source, mine.line, duplicated.key, duplicated.first
        ), ranked AS (
            SELECT *, row_number() OVER (PARTITION BY source ORDER BY line) AS rank,
                   count(*) OVER (PARTITION BY source) AS duplicates
            FROM gone
        )
        SELECT source, line, key, first, rank, duplicates FROM ranked WHERE rank <= $1 ORDER BY source, line
    """


def delete_rows(dataset: Dataset) -> str:
    """Delete the rows that their source no longer has, or has with other values."""
    return f"""
        DELETE FROM etl."{dataset.name}" AS mine
        USING unnest($1::integer[], $2::bigint[]) AS made (position, id)
        WHERE mine.source_id = made.id AND NOT EXISTS (
            SELECT FROM "{staging_name(dataset)}" AS new
            WHERE new.source = made.position AND new."{dataset.key}" = mine."{dataset.key}"
                AND {_same(dataset, "new", "mine")}
        )
    """


def insert_rows(dataset: Dataset, *, missing: bool) -> str:
    """Insert the rows of the written sources; with `missing`, only those that are not in the table."""
    columns = ", ".join(f'"{name}"' for name in dataset.fields)
    values = ", ".join(f'new."{name}"' for name in dataset.fields)
    there = f"""
        WHERE NOT EXISTS (
            SELECT FROM etl."{dataset.name}" AS mine
            WHERE mine.source_id = made.id AND mine."{dataset.key}" = new."{dataset.key}"
        )
    """
    return f"""
        INSERT INTO etl."{dataset.name}" ({columns}, source_id, line)
        SELECT {values}, made.id, new.line
        FROM "{staging_name(dataset)}" AS new JOIN unnest($1::integer[], $2::bigint[]) AS made (position, id)
            ON new.source = made.position
        {there if missing else ""}
        ORDER BY new."{dataset.key}", made.id
    """


def _same(dataset: Dataset, one: str, other: str) -> str:
    return " AND ".join(f'{one}."{name}" IS NOT DISTINCT FROM {other}."{name}"' for name in dataset.columns)
