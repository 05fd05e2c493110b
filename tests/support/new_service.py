"""A service that exists in no checkout: `census` counts the objects of each bucket. Its folder is all that it needs."""

from pathlib import Path
from typing import Final

NAME: Final = "census"
FILES: Final = {
    "__init__.py": '''"""Counts objects.

Consumes `objects.changed.v1`; publishes `objects.counted.v1`; stores `census.objects`.
"""
''',
    "core/__init__.py": '"""What is counted."""\n',
    "core/events.py": '''"""The fact that census publishes."""

from shared.events import ObjectEvent
from shared.topics import Topic


class ObjectCounted(ObjectEvent):
    """An object was counted."""

    topic = Topic("objects.counted.v1", about="an object was counted")

    @property
    def identity(self) -> tuple[object, ...]:
        """The object."""
        return (self.bucket, self.key, self.correlation_id)

    @property
    def outcome(self) -> str:
        """`counted`."""
        return "counted"

    @property
    def detail(self) -> str:
        """The service that counted."""
        return "by census"
''',
    "manifest.py": '''"""What census consumes, publishes, stores and needs."""

from typing import Final

from services.census.core.events import ObjectCounted
from shared.manifest import READ_INPUTS, Manifest
from shared.topics import OBJECTS_CHANGED

MANIFEST: Final = Manifest(
    name="census",
    consumes=(OBJECTS_CHANGED,),
    publishes=(ObjectCounted,),
    grants=READ_INPUTS,
    migrations=f"{__package__}.migrations",
    stores="`census.objects`: every counted object",
    views={"census": "every bucket with counted objects"},
)
''',
    "migrations/__init__.py": '"""Tables of census."""\n',
    "migrations/0001.census.sql": """CREATE TABLE census.objects (bucket text, key text, PRIMARY KEY (bucket, key));
CREATE VIEW api.census AS SELECT bucket, count(*) AS objects FROM census.objects GROUP BY bucket;
""",
    "settings.py": '''"""Settings of census."""

from pydantic import Field

from shared.settings import Settings


class CensusSettings(Settings):
    """Settings of census."""

    health_port: int = Field(8099, description="Port of probes and metrics; 0 takes a free one.")
    census_prefix: str = Field("", description="Prefix of the keys that are counted.")
''',
    "adapters/__init__.py": '"""The table of counted objects."""\n',
    "adapters/ledger.py": '''"""Counted objects in Postgres."""

from shared.postgres import Pool


class Ledger:
    """Rows of `census.objects`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, objects: list[tuple[str, str]]) -> None:
        """Add objects that are not counted yet."""
        await self._pool.executemany("INSERT INTO census.objects VALUES ($1, $2) ON CONFLICT DO NOTHING", objects)
''',
    "handlers.py": '''"""Count stored objects."""

from collections.abc import Sequence

from services.census.adapters.ledger import Ledger
from services.census.core.events import ObjectCounted
from shared.bus import Received, Router
from shared.events import ObjectChanged

router = Router("census")


@router.on(ObjectChanged, publishes=[ObjectCounted])
async def count(batch: Sequence[Received[ObjectChanged]], ledger: Ledger) -> list[ObjectCounted]:
    """Count each stored object once."""
    stored = [one.event for one in batch if one.event.change == "stored"]
    await ledger.add([(one.bucket, one.key) for one in stored])
    return [ObjectCounted(bucket=one.bucket, key=one.key).caused_by(one) for one in stored]
''',
    "app.py": '''"""Wire census."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.census import handlers
from services.census.adapters.ledger import Ledger
from services.census.settings import CensusSettings
from shared.bus import Bus
from shared.postgres import migrate, open_pool
from shared.service import Resources, Service


def build_app(settings: CensusSettings) -> Service:
    """Wire census without connecting to anything."""
    return Service(settings, handlers.router, partial(_open, settings))


@asynccontextmanager
async def _open(settings: CensusSettings, _bus: Bus) -> AsyncIterator[Resources]:
    await migrate(settings.postgres_dsn, "census", "services.census.migrations")
    async with open_pool(settings.postgres_dsn, service="census") as pool:
        yield Resources({"ledger": Ledger(pool)})
''',
    "__main__.py": '''"""Run census: `python -m services.census`."""

import sys

from services.census.app import build_app
from services.census.settings import CensusSettings
from shared.service import run

if __name__ == "__main__":
    sys.exit(run(build_app(CensusSettings())))
''',
}


def write(checkout: Path) -> None:
    """Write the service's folder into a copy of the checkout."""
    for name, text in FILES.items():
        path = checkout / "services" / NAME / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
