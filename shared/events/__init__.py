"""The facts and requests on the bus, each declared once and bound to its topic; one module per domain."""

from shared.events.dead_letters import DeadLetterSettled
from shared.events.etl import EtlCompleted, EtlLoaded, EtlRequested
from shared.events.event import MAX_SIZE, Event, event_of, stable_id
from shared.events.objects import ObjectChanged, ObjectEvent, ObjectHashed
from shared.events.sweeps import MAX_BUCKETS, SweepCompleted, SweepEvent, SweepRequested

__all__ = [
    "MAX_BUCKETS",
    "MAX_SIZE",
    "DeadLetterSettled",
    "EtlCompleted",
    "EtlLoaded",
    "EtlRequested",
    "Event",
    "ObjectChanged",
    "ObjectEvent",
    "ObjectHashed",
    "SweepCompleted",
    "SweepEvent",
    "SweepRequested",
    "event_of",
    "stable_id",
]
