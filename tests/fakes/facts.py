"""The facts and the webhooks of the ingress in memory; `is_away` is a database that does not answer."""

from dataclasses import replace

from services.ingress.core.facts import Fact
from shared.errors import Outage, Rejected


class MemoryFacts:
    """`ingress.facts`: each once, numbered as they come; a body of `refused` is refused as Postgres would."""

    def __init__(self):
        self.kept: list[Fact] = []
        self.states = {}
        self.is_away = False
        self.reads = 0

    async def add(self, told):
        self._ask()
        if any(fact.body == "refused" for fact in told):
            raise ValueError("cannot be kept")
        before = len(self.kept)
        known = {(fact.topic, fact.event_id) for fact in self.kept}
        for fact in told:
            if (fact.topic, fact.event_id) not in known:
                known.add((fact.topic, fact.event_id))
                self.kept.append(replace(fact, seq=len(self.kept) + 1))
        return len(self.kept) - before

    async def page(self, after, limit):
        self._ask()
        self.reads += 1
        return self.kept[after : after + limit]

    async def last(self):
        self._ask()
        return len(self.kept)

    highest = last

    async def about(self, bucket, key, after, limit):
        self._ask()
        return [one for one in self.kept if (one.bucket, one.key) == (bucket, key) and one.seq > after][:limit]

    async def state(self, bucket, key):
        self._ask()
        return {"object": [], "digests": [], "work": [], **self.states.get((bucket, key), {})}

    def _ask(self):
        if self.is_away:
            raise Outage("Postgres does not answer: try again later")


class MemoryWebhooks:
    """`ingress.webhooks`, as far as routes ask."""

    def __init__(self):
        self.kept = {}

    async def add(self, hook):
        self.kept[hook.id] = hook
        return hook

    async def all(self):
        return list(self.kept.values())

    async def get(self, number):
        if number not in self.kept:
            raise Rejected("NO_SUCH_WEBHOOK", "there is no such webhook: GET /webhooks lists them")
        return self.kept[number]

    async def remove(self, number):
        del self.kept[number]
