"""Every line that is logged while records are handled says where they came from."""

from typing import Any

import structlog
from faststream import BaseMiddleware

from shared.middleware.records import records_of


class LogContext(BaseMiddleware[Any, Any]):
    """Binds topic and batch size to the log lines of a handler."""

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        """Bind, call on, unbind."""
        records = records_of(msg)
        with structlog.contextvars.bound_contextvars(topic=records[0].topic, records=len(records)):
            return await call_next(msg)
