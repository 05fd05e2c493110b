"""A dataset of a test's own in a real Postgres, its rows written as etl would write them."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from pydantic import SecretStr

from services.etl.adapters.schema import ensure_schema, ensure_tables
from services.etl.core.datasets import Datasets
from shared.postgres import open_pool
from tests.support.system import SystemUnderTest
from tests.support.topics import run

_USERS = """
[{name}]
bucket = "src-data"
prefix = "{prefix}"
key = "user_id"
images = ["png"]
born = "birthts"
[{name}.columns]
first_name = {{ type = "text", required = true }}
last_name = {{ type = "text" }}
birthts = {{ type = "milliseconds" }}
"""


@dataclass
class Table:
    """A table of users under a name that no other test has."""

    system: SystemUnderTest
    text: str = _USERS
    name: str = field(default_factory=lambda: f"u{uuid.uuid4().hex[:10]}")

    def __post_init__(self) -> None:
        self.text = self.text.format(name=self.name, prefix=self.system.prefix)
        run(self._make())
        self.file = self.source("all.csv", "rows")

    async def _make(self) -> None:
        dsn = SecretStr(self.system.stack.env["PENSTOCK_POSTGRES_DSN"])
        await ensure_schema(dsn)
        async with open_pool(dsn, service="test") as pool:
            await ensure_tables(pool, Datasets.parse(self.text))

    def drop(self) -> None:
        """Leave nothing of it."""
        self.sql("drop view api.{}".format(f'"{self.name}"'))
        self.sql("drop table {}")
        for table in ("sources", "exports", "loads"):
            self.sql(f"delete from etl.{table} where dataset = $1", self.name)  # noqa: S608 - names of ours
        self.sql("delete from etl.datasets where name = $1", self.name)

    def sql(self, question: str, *values: object) -> list[Any]:
        """Run a statement in which `{}` is the table."""
        return self.system.database.rows(question.format(f'etl."{self.name}"'), *values)

    def source(self, name: str, kind: str) -> int:
        """Tell of a file or an image; return its id."""
        found = self.sql(
            "insert into etl.sources (bucket, key, dataset, kind, etag, stored_at)"
            " values ('src-data', $1, $2, $3, 'e', now()) returning id",
            self.system.prefix + name,
            self.name,
            kind,
        )
        return int(found[0]["id"])

    def add(self, *rows: tuple[str, str | None, str | None, int | None]) -> None:
        """Store users: id, first and last name, and when they were born in milliseconds."""
        self.sql(
            "insert into {} select id, one, two, born, $5, 1 from unnest($1::text[], $2::text[], $3::text[],"
            " $4::bigint[]) as t (id, one, two, born)",
            *map(list, zip(*rows, strict=True)),
            self.file,
        )

    def add_many(self, count: int) -> None:
        """Store users 00000001 and so on."""
        self.sql(
            "insert into {} select lpad(n::text, 8, '0'), 'First' || n, 'O''Last ' || n, n * 1000, $1, n"
            " from generate_series(1, $2::bigint) as n",
            self.file,
            count,
        )

    def remove(self, ids: Iterable[str]) -> None:
        """Remove users."""
        self.sql("delete from {} where user_id = any($1)", list(ids))

    def image(self, user_id: str, body: bytes | None = None) -> str:
        """Tell of an image of a user, and store it where a body is given; return its path."""
        if body is not None:
            key = f"{self.system.prefix}{user_id}.png"
            self.system.s3.put_object(Bucket="src-data", Key=key, Body=body, ContentType="image/png")
        number = self.source(f"{user_id}.png", "image")
        self.sql("insert into etl.images values ($1, $2, $3, 'image/png', 1, 1)", number, self.name, user_id)
        return f"src-data/{self.system.prefix}{user_id}.png"

    def reject(self, name: str, row: int, *, column: str = "", value: str = "", reason: str = "no") -> None:
        """Tell of a rejected row."""
        number = self.sql("select id from etl.sources where key = $1", self.system.prefix + name)[0]["id"]
        self.sql("insert into etl.rejects values ($1, $2, $3, $4, 'BAD', $5)", number, row, column, value, reason)


def milliseconds(day: date) -> int:
    """Return when a day begins in UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def age_on(today: date, born: date) -> int:
    """Count whole calendar years: a birthday on 29 February is on 1 March in other years."""
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
