"""Middleware that wraps published events in their CloudEvents envelope."""

from typing import Any

from faststream import BaseMiddleware
from faststream.kafka.response import KafkaPublishCommand

from shared.cloud_events import headers_for
from shared.events import Event


class Envelope(BaseMiddleware[KafkaPublishCommand, Any]):
    """Serializes published events to key, headers and JSON body; raw records pass unchanged."""

    def __init__(self, msg: Any, /, *, source: str, **kwargs: Any) -> None:
        super().__init__(msg, **kwargs)
        self._source = source

    async def publish_scope(self, call_next: Any, cmd: KafkaPublishCommand) -> Any:
        """Serialize `cmd.body` if it is an event."""
        if isinstance(cmd.body, Event):
            event = cmd.body
            cmd.correlation_id = event.correlation_id
            cmd.headers = headers_for(event, source=self._source) | cmd.headers
            cmd.key = event.record_key.encode("utf-8", "surrogatepass")
            cmd.body = event.model_dump_json(exclude_none=True).encode()
        return await call_next(cmd)
