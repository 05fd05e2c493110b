"""Add topic and batch size to log lines of handlers."""

from typing import Any

import structlog
from faststream import BaseMiddleware

from shared.middleware.records import records_of


class LogContext(BaseMiddleware[Any, Any]):
    """Binds topic and batch size to log lines while a handler runs."""

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        """Call the handler with the bound fields."""
        records = records_of(msg)
        with structlog.contextvars.bound_contextvars(topic=records[0].topic, records=len(records)):
            return await call_next(msg)
