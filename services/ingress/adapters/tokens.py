"""Who sends a request, by the token that comes with it."""

import hmac

from services.ingress.core.access import EVERYBODY, ROOT, Principal
from services.ingress.settings import IngressSettings


class Tokens:
    """Knows the principals; the first token is in the settings."""

    def __init__(self, settings: IngressSettings) -> None:
        self._open = settings.auth == "none"
        self._first = settings.token.get_secret_value().encode()

    @property
    def is_open(self) -> bool:
        """Whether everybody may come in without a token."""
        return self._open

    async def authenticate(self, secret: str) -> Principal | None:
        """Return the bearer of `secret`, compared in constant time; None for a token that is not known."""
        if self._open:
            return EVERYBODY
        return ROOT if hmac.compare_digest(secret.encode(), self._first) else None
