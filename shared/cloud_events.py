"""CloudEvents 1.0 in Kafka's binary mode: attributes in headers, the event in the body.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from datetime import UTC, datetime
from typing import Final

from shared.events import Event, stable_id

CONTENT_TYPE: Final = "application/json"


def headers_for(event: Event, *, source: str) -> dict[str, str]:
    """Return the record headers of `event`; its trace id is the correlation id, so one id finds logs and spans."""
    correlation_id = event.correlation_id or event.event_id
    trace_id = correlation_id if _is_trace_id(correlation_id) else stable_id(correlation_id)
    return {
        "content-type": CONTENT_TYPE,
        "ce_specversion": "1.0",
        "ce_id": event.event_id,
        "ce_type": event.type_name(),
        "ce_source": f"/penstock/{source}",
        "ce_subject": event.record_key.encode("ascii", "backslashreplace").decode(),
        "ce_time": datetime.now(UTC).isoformat(),
        "correlation_id": event.correlation_id,
        "traceparent": f"00-{trace_id}-{event.event_id[:16]}-01",
    }


def _is_trace_id(text: str) -> bool:
    return len(text) == 32 and text.strip("0") != "" and all(digit in "0123456789abcdef" for digit in text)  # noqa: PLR2004
