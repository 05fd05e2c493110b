"""The tables of etl without a database: a dataset, and what a test lays out."""

from starlette.responses import JSONResponse

from services.ingress.adapters.loads import Loads
from services.ingress.adapters.tables import Tables
from services.ingress.core.ages import AgeSpan
from services.ingress.core.datasets import parse_dataset
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
        self.datasets = [parse_dataset(STONES, ("id", "weight")), parse_dataset(USERS, ORDER)]
        self.found = []
        self.rejects_found = []
        self.queries = []
        self.is_away = False

    async def visible_datasets(self, who):
        if self.is_away:
            raise Outage("Postgres does not answer")
        return [one for one in self.datasets if one.is_visible_to(who)]

    def rows(self, dataset, query, file_format, url):  # noqa: ARG002
        self.queries.append((dataset.name, query, file_format))
        return JSONResponse({})

    async def rows_page(self, _dataset, query):
        following = self.found[query.limit - 1]["user_id"] if len(self.found) > query.limit else ""
        return self.found[: query.limit], following

    async def spans(self, _dataset, query):
        self.queries.append(query)
        images = sum(bool(row["img_path"]) for row in self.found)
        return [AgeSpan(30, len(self.found), images, 35 * len(self.found), 35, 35)] if self.found else []

    async def rejects_page(self, _dataset, _key, _after, limit):
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

    async def find(self, load_id, datasets):
        found = next((one for one in self.table if one["load_id"] == load_id and one["dataset"] in datasets), None)
        return found or await super().find(load_id, datasets)

    async def latest(self, datasets, limit):
        return [one for one in self.table if one["dataset"] in datasets][:limit]

    async def _ask(self, *_):
        return []
