"""Render facts: for timelines, event streams and webhooks."""

import json
from typing import Any, Final

from services.ingress.core.facts import DEAD_LETTERED, Fact
from shared.events import event_of

MAX_SUMMARY: Final = 200


def render_fact(fact: Fact) -> dict[str, Any]:
    """Return the fact as JSON; `at` is UTC."""
    return {
        "seq": fact.seq,
        "event_id": fact.event_id,
        "type": fact.type,
        "at": fact.at.isoformat(),
        "service": fact.service,
        "bucket": fact.bucket,
        "key": fact.key,
        "summary": summarize(fact),
        "error": fact.error,
        "correlation_id": fact.correlation_id,
        "topic": fact.topic,
        "body": fact.body,
    }


def summarize(fact: Fact) -> str:
    """Describe the fact in one line of at most `MAX_SUMMARY` characters."""
    if fact.type == DEAD_LETTERED:
        text = f"dead-lettered by {fact.service}" + (f": {fact.error}" if fact.error else "")
    elif event := event_of(fact.type, fact.body):
        text = event.summary()
    else:
        text = _summarize_unknown(fact)
    return text[:MAX_SUMMARY]


def _summarize_unknown(fact: Fact) -> str:
    """Describe a fact of an unknown type, or with an invalid body, by its state."""
    body = fact.body if isinstance(fact.body, dict) else {}
    state = next((str(body[name]) for name in ("state", "status", "result") if body.get(name)), "")
    return f"{fact.type}: {state}" if state else fact.type


def render_sse_event(fact: Fact) -> str:
    """Return the fact as one event of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return f"id: {fact.seq}\nevent: {fact.type}\ndata: {json.dumps(render_fact(fact))}\n\n"


def render_heartbeat(seq: int) -> str:
    """Return an SSE comment that shows the stream is alive and moves the client's last event id."""
    return f": alive\nid: {seq}\n\n"
