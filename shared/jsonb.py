"""PostgreSQL's jsonb as Python values."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time the console works without pools and migrations
    from shared.postgres import Connection


async def register_json_codec(connection: "Connection") -> None:
    """Encode and decode jsonb as Python values on `connection`."""
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
