"""What the other services have recorded, without a database: rows that a test lays out."""

from shared.errors import Outage


class MemoryViews:
    """Uploads by bucket and id; the rest is as empty as a new database."""

    def __init__(self):
        self.is_away = False
        """While set, every question is an outage."""
        self.uploads = {}
        self.holders = []

    async def upload(self, bucket, id):  # noqa: A002
        self._ask()
        return self.uploads.get((bucket, id))

    async def counts(self, _places):
        self._ask()
        return {"digests": [], "objects": [], "work": [], "tables": [], "last_sweep": None}

    async def leases(self):
        self._ask()
        return self.holders

    def _ask(self):
        if self.is_away:
            raise Outage("Postgres does not answer")


class MemoryGroups:
    """The consumer groups of a broker without consumers."""

    def __init__(self):
        self.is_away = False

    async def describe(self):
        if self.is_away:
            raise Outage("Kafka does not answer")
        return []
