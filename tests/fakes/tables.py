"""The tables of etl without a database: a dataset, and what a test lays out."""

from starlette.responses import JSONResponse

from services.ingress.adapters.loads import Loads
from services.ingress.adapters.tables import Tables
from services.ingress.core.ages import Span
from services.ingress.core.datasets import dataset_of
from shared.errors import Outage

USERS = {
    "name": "users",
    "bucket": "src-data",
    "prefix": "",
    "key": "user_id",
    "images": ["png"],
    "output": "output",
    "born": "birthts",
    "columns": {
        "birthts": {"type": "milliseconds", "required": True},
        "last_name": {"type": "text", "required": True},
        "first_name": {"type": "text", "required": True},
    },
}
ORDER = ("user_id", "first_name", "last_name", "birthts", "img_path", "img_type")
STONES = {"name": "stones", "bucket": "src-data", "key": "id", "columns": {"weight": {"type": "number"}}}


class MemoryTables(Tables):
    """Two datasets, one with ages and one without; `asked` is what was asked of their rows."""

    def __init__(self):
        self.datasets = [dataset_of(STONES, ("id", "weight")), dataset_of(USERS, ORDER)]
        self.found = []
        self.rejects_found = []
        self.asked = []
        self.is_away = False

    async def seen_by(self, who):
        if self.is_away:
            raise Outage("Postgres does not answer")
        return [one for one in self.datasets if one.is_seen_by(who)]

    def rows(self, dataset, wanted, told, url):  # noqa: ARG002
        self.asked.append((dataset.name, wanted, told))
        return JSONResponse({})

    async def shown(self, _dataset, wanted):
        following = self.found[wanted.limit - 1]["user_id"] if len(self.found) > wanted.limit else ""
        return self.found[: wanted.limit], following

    async def spans(self, _dataset, wanted):
        self.asked.append(wanted)
        images = sum(bool(row["img_path"]) for row in self.found)
        return [Span(30, len(self.found), images, 35 * len(self.found), 35, 35)] if self.found else []

    async def rejected(self, _dataset, _key, _after, limit):
        return self.rejects_found[:limit], "more" if len(self.rejects_found) > limit else ""


class MemoryBus:
    """Keeps what is published."""

    def __init__(self):
        self.published = []
        self.error = None

    async def publish(self, events):
        if self.error:
            raise self.error
        self.published.extend(events)


class MemoryLoads(Loads):
    """Loads on a bus in memory; `table` is what etl has written of them, newest first."""

    def __init__(self, key):
        self.bus = MemoryBus()
        self.table = []
        super().__init__(None, self.bus, key)

    async def known(self, load_id, datasets):
        found = next((one for one in self.table if one["load_id"] == load_id and one["dataset"] in datasets), None)
        return found or await super().known(load_id, datasets)

    async def latest(self, datasets, limit):
        return [one for one in self.table if one["dataset"] in datasets][:limit]

    async def _ask(self, *_):
        return []
