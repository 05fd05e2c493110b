"""The table of tokens without a database: the same promises, the same errors."""

from dataclasses import replace
from datetime import UTC, datetime

from services.ingress.adapters.token_table import LINK_LASTS, Kept, ended_maker
from services.ingress.core.access import EVERYBODY, ROOT
from shared.errors import Outage, Rejected


class MemoryTokenTable:
    """Tokens, links and ended sessions that live as long as their object; several ingresses may share one."""

    def __init__(self):
        self.is_away = False
        """While set, every question is an outage."""
        self.tokens = {}
        self.links = {}
        self.ended = set()

    async def kept(self):
        self._ask()
        now = datetime.now(UTC)
        return Kept([one for one in self.tokens.values() if one.holds(now)], frozenset(self.ended))

    def holds(self, number):
        token = self.tokens.get(number)
        return number in {ROOT.id, EVERYBODY.id} or (token is not None and token.holds(datetime.now(UTC)))

    def line_of(self, number):
        return {
            number,
            *(one for made in self.tokens.values() if made.parent_id == number for one in self.line_of(made.id)),
        }

    async def add(self, token):
        kept = (await self.kept()).tokens
        if not self.holds(token.parent_id):
            raise ended_maker()
        if any((one.parent_id, one.name) == (token.parent_id, token.name) for one in kept):
            raise Rejected("NAME_TAKEN", f"there is a token named {token.name}: revoke it first")
        self.tokens[token.id] = token

    async def revoke(self, number):
        self._ask()
        return frozenset(one for one in self.line_of(number) if self.tokens.pop(one, None))

    async def ended_among(self, numbers):
        self._ask()
        return frozenset(one for one in numbers if not self.holds(one))

    async def disable_webhooks(self):
        self._ask()

    async def note_used(self, used):
        self._ask()
        for number, at in used.items():
            if number in self.tokens:
                self.tokens[number] = replace(self.tokens[number], last_used_at=at)

    async def add_link(self, hashed, token_id):
        self._ask()
        self.links[hashed] = (token_id, datetime.now(UTC) + LINK_LASTS)

    async def use_link(self, hashed):
        self._ask()
        token_id, until = self.links.pop(hashed, (None, datetime.now(UTC)))
        return token_id if until > datetime.now(UTC) else None

    async def end_session(self, number):
        self._ask()
        self.ended.add(number)

    def _ask(self):
        if self.is_away:
            raise Outage("Postgres does not answer")
