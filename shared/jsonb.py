"""PostgreSQL's jsonb as Python values."""

import json
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # asyncpg's classes are generic in its stubs only
    import asyncpg

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]


async def register_json_codec(connection: "Connection") -> None:
    """Encode and decode jsonb as Python values on `connection`."""
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
