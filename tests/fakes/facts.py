"""The facts and the webhooks of the ingress in memory; `is_away` is a database that does not answer."""

from dataclasses import replace

from services.ingress.adapters.token_table import parent_ended
from services.ingress.core.facts import Fact
from shared.errors import Outage, Rejected


class MemoryFacts:
    """`ingress.facts`: each once, numbered as they come; a body of `refused` is refused as Postgres would."""

    def __init__(self):
        self.stored: list[Fact] = []
        self.states = {}
        self.is_away = False
        self.reads = 0

    async def add(self, facts):
        self._ask()
        if any(fact.body == "refused" for fact in facts):
            raise ValueError("cannot be kept")
        before = len(self.stored)
        known = {(fact.topic, fact.event_id) for fact in self.stored}
        for fact in facts:
            if (fact.topic, fact.event_id) not in known:
                known.add((fact.topic, fact.event_id))
                self.stored.append(replace(fact, seq=len(self.stored) + 1))
        return len(self.stored) - before

    async def page(self, after, limit):
        self._ask()
        self.reads += 1
        return self.stored[after : after + limit]

    async def last(self):
        self._ask()
        return len(self.stored)

    highest = last

    async def about(self, bucket, key, after, limit):
        self._ask()
        found = [one for one in self.stored if (one.bucket, one.key) == (bucket, key) and one.seq > after][:limit]
        return found, len(found) == limit

    async def state(self, bucket, key):
        self._ask()
        return {"object": [], "digests": [], "work": [], **self.states.get((bucket, key), {})}

    def _ask(self):
        if self.is_away:
            raise Outage("Postgres does not answer: try again later")


class MemoryWebhooks:
    """`ingress.webhooks`, as far as routes ask; whose they are, the table of tokens knows."""

    def __init__(self, tokens):
        self.stored = {}
        self.tokens = tokens

    async def add(self, hook):
        if not self.tokens.is_valid(hook.token_id):
            raise parent_ended()
        self.stored[hook.id] = hook
        return hook

    async def all(self, made_by):
        line = None if made_by is None else self.tokens.line_of(made_by)
        return [one for one in self.stored.values() if line is None or one.token_id in line]

    async def get(self, webhook_id, made_by):
        found = next((one for one in await self.all(made_by) if one.id == webhook_id), None)
        if found is None:
            raise Rejected("NO_SUCH_WEBHOOK", "there is no such webhook: GET /webhooks lists them")
        return found

    async def require_valid_token(self, webhook_id):
        if not self.tokens.is_valid(self.stored[webhook_id].token_id):
            raise Rejected("TOKEN_ENDED", "the token that made this webhook was revoked or has expired")

    async def retry(self, webhook_id):
        await self.require_valid_token(webhook_id)
        return 0

    async def failures(self, _number, _after, _limit):
        return []

    async def remove(self, webhook_id):
        del self.stored[webhook_id]
