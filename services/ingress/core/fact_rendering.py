"""Render facts: for timelines, event streams and webhooks."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from services.ingress.core.facts import DEAD_LETTERED, Fact

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
    """Say in a few words what has happened."""
    body = fact.body if isinstance(fact.body, dict) else {}
    summarizer = _SUMMARIES.get(fact.type, _other)
    return (summarizer(fact, body) or fact.type)[:MAX_SUMMARY]


def render_sse_event(fact: Fact) -> str:
    """Return the fact as one event of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return f"id: {fact.seq}\nevent: {fact.type}\ndata: {json.dumps(render_fact(fact))}\n\n"


def render_heartbeat(seq: int) -> str:
    """Return an SSE comment that shows the stream is alive and moves the client's last event id."""
    return f": alive\nid: {seq}\n\n"


def _changed(_fact: Fact, body: Mapping[str, Any]) -> str:
    size = body.get("size")
    return f"stored, {size} bytes" if body.get("change") == "stored" else str(body.get("change") or "")


def _hashed(_fact: Fact, body: Mapping[str, Any]) -> str:
    digests = body.get("digests")
    names = ", ".join(sorted(digests)) if isinstance(digests, dict) else ""
    verified = {"verified": "; as declared", "mismatch": "; not as declared"}.get(str(body.get("verification")), "")
    return f"hashed: {names}{verified}" if names else ""


def _swept(_fact: Fact, body: Mapping[str, Any]) -> str:
    return f"swept: {body.get('missed')} missed and {body.get('vanished')} vanished of {body.get('listed')}"


def _dead_lettered(fact: Fact, _body: Mapping[str, Any]) -> str:
    return f"put aside by {fact.service}: {fact.error}" if fact.error else f"put aside by {fact.service}"


def _resolved(_fact: Fact, body: Mapping[str, Any]) -> str:
    return f"dead letter {body.get('action')}"


def _other(fact: Fact, body: Mapping[str, Any]) -> str:
    """Summarize a fact of an unknown type by its state."""
    state = next((str(body[name]) for name in ("state", "status", "result") if body.get(name)), "")
    return f"{fact.type}: {state}" if state else fact.type


_SUMMARIES: Final[Mapping[str, Callable[[Fact, Mapping[str, Any]], str]]] = {
    "objects.changed.v1": _changed,
    "objects.hashed.v1": _hashed,
    "sweeps.completed.v1": _swept,
    "dead-letters.settled.v1": _resolved,
    DEAD_LETTERED: _dead_lettered,
}
