"""CloudEvents 1.0 in Kafka's binary mode: attributes in headers, the event alone in the body.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from datetime import UTC, datetime
from typing import Any

from faststream import BaseMiddleware
from faststream.kafka.response import KafkaPublishCommand

from shared.events import Event, stable_id

CONTENT_TYPE = "application/json"


def headers_for(event: Event, *, source: str) -> dict[str, str]:
    """Return the headers that `event` travels with; the trace is the object's own, so one id finds logs and spans."""
    born = event.correlation_id or event.event_id
    trace = born if _is_trace_id(born) else stable_id(born)
    return {
        "content-type": CONTENT_TYPE,
        "ce_specversion": "1.0",
        "ce_id": event.event_id,
        "ce_type": event.type_name(),
        "ce_source": f"/penstock/{source}",
        "ce_subject": event.record_key.encode("ascii", "backslashreplace").decode(),
        "ce_time": datetime.now(UTC).isoformat(),
        "correlation_id": event.correlation_id,
        "traceparent": f"00-{trace}-{event.event_id[:16]}-01",
    }


def _is_trace_id(text: str) -> bool:
    return len(text) == 32 and text.strip("0") != "" and all(digit in "0123456789abcdef" for digit in text)  # noqa: PLR2004


class Envelope(BaseMiddleware[KafkaPublishCommand, Any]):
    """Puts an event into its envelope: key, headers and JSON body; raw records pass untouched."""

    def __init__(self, msg: Any, /, *, source: str, **kwargs: Any) -> None:
        super().__init__(msg, **kwargs)
        self._source = source

    async def publish_scope(self, call_next: Any, cmd: KafkaPublishCommand) -> Any:
        """Wrap `cmd.body` when it is an event."""
        if isinstance(cmd.body, Event):
            event = cmd.body
            cmd.correlation_id = event.correlation_id
            cmd.headers = headers_for(event, source=self._source) | cmd.headers
            cmd.key = event.record_key.encode("utf-8", "surrogatepass")
            cmd.body = event.model_dump_json(exclude_none=True).encode()
        return await call_next(cmd)
