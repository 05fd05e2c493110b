"""The table of tokens without a database: the same promises, the same errors."""

from dataclasses import replace
from datetime import UTC, datetime

from services.ingress.adapters.token_table import LINK_TTL, StoredTokens, parent_ended
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

    async def load(self):
        self._ask()
        now = datetime.now(UTC)
        return StoredTokens([one for one in self.tokens.values() if one.is_valid(now)], frozenset(self.ended))

    def is_valid(self, token_id):
        token = self.tokens.get(token_id)
        return token_id in {ROOT.id, EVERYBODY.id} or (token is not None and token.is_valid(datetime.now(UTC)))

    def line_of(self, token_id):
        return {
            token_id,
            *(one for made in self.tokens.values() if made.parent_id == token_id for one in self.line_of(made.id)),
        }

    async def add(self, token):
        live = (await self.load()).tokens
        if not self.is_valid(token.parent_id):
            raise parent_ended()
        if any((one.parent_id, one.name) == (token.parent_id, token.name) for one in live):
            raise Rejected("NAME_TAKEN", f"there is a token named {token.name}: revoke it first")
        self.tokens[token.id] = token

    async def revoke(self, token_id):
        self._ask()
        return frozenset(one for one in self.line_of(token_id) if self.tokens.pop(one, None))

    async def ended_among(self, token_ids):
        self._ask()
        return frozenset(one for one in token_ids if not self.is_valid(one))

    async def disable_webhooks(self):
        self._ask()

    async def save_last_used(self, used):
        self._ask()
        for token_id, at in used.items():
            if token_id in self.tokens:
                self.tokens[token_id] = replace(self.tokens[token_id], last_used_at=at)

    async def add_link(self, hashed, token_id):
        self._ask()
        self.links[hashed] = (token_id, datetime.now(UTC) + LINK_TTL)

    async def use_link(self, hashed):
        self._ask()
        token_id, until = self.links.pop(hashed, (None, datetime.now(UTC)))
        return token_id if until > datetime.now(UTC) else None

    async def end_session(self, token_id):
        self._ask()
        self.ended.add(token_id)

    def _ask(self):
        if self.is_away:
            raise Outage("Postgres does not answer")
