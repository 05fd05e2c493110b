"""The table of tokens without a database: the same promises, the same errors."""

from dataclasses import replace
from datetime import UTC, datetime

from services.ingress.adapters.token_table import LINK_LASTS, Kept
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

    async def add(self, token):
        if any(one.name == token.name for one in (await self.kept()).tokens):
            raise Rejected("NAME_TAKEN", f"there is a token named {token.name}: revoke it first")
        self.tokens[token.id] = token

    async def revoke(self, number):
        self._ask()
        return self.tokens.pop(number, None) is not None

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
