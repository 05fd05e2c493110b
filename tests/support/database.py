"""The database as anybody may ask it."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from tests.support.topics import run

_TABLES = """
SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables
WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
"""


class Database:
    """The database of a stack; every question opens a connection of its own, so that a restart harms none."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def rows(self, question: str, *values: object) -> list[Any]:
        """Return the rows of an answer."""
        return run(self._rows(question, values))

    def holding(self, words: Sequence[str]) -> list[str]:
        """Name the tables in which a row holds one of `words`, in text, in JSON or in bytes."""
        patterns = [f"%{form}%" for word in words for form in (word, word.encode().hex())]
        question = "SELECT count(*) FROM {} AS t WHERE t::text LIKE ANY ($1)"
        tables = [row["name"] for row in self.rows(_TABLES)]
        return [name for name in tables if self.rows(question.format(name), patterns)[0]["count"]]

    async def _rows(self, question: str, values: Sequence[object]) -> list[Any]:
        connection = await asyncpg.connect(self._dsn, timeout=30)
        try:
            return await connection.fetch(question, *values)
        finally:
            await connection.close()
