"""Save every fact and every dead letter as rows of the timeline."""

from collections.abc import Sequence

import structlog
from prometheus_client import Counter

from services import catalogue
from services.ingress.adapters.fact_table import FactTable
from services.ingress.core.facts import Fact, UndecodableRecord, decode_fact
from shared.bus import Received, Router
from shared.errors import Kind, kind_of, one_line
from shared.events import Event
from shared.middleware.records import Record

log = structlog.get_logger()
router = Router("ingress")
TOPICS = catalogue.manifests().consumers[router.service]

FACTS = Counter("penstock_ingress_facts_total", "Facts that were new to the timeline.")
SKIPPED = Counter("penstock_ingress_records_skipped_total", "Records that are not shown, by why.", ["reason"])

Batch = Sequence[Received[Fact | None]]


def decode_or_skip(record: Record) -> Fact | None:
    """Return the decoded fact; None for an undecodable record, which the service that needs it dead-letters."""
    try:
        return decode_fact(record)
    except UndecodableRecord as error:
        _skip(record.topic, record.partition, record.offset, str(error))
    except Exception as error:  # noqa: BLE001 - one bad record must not stop the timeline
        _skip(record.topic, record.partition, record.offset, "unreadable", one_line(error))
    return None


@router.consumes(*TOPICS, decode=decode_or_skip, payload=Event, max_records=1000)
async def save_facts(batch: Batch, facts: FactTable) -> None:
    """Save every fact once, in the order of arrival."""
    await _save([received.event for received in batch if received.event is not None], facts)


async def _save(decoded: Sequence[Fact], facts: FactTable) -> None:
    """Save facts; skip one that the database rejects, without dead-lettering it."""
    if not decoded:
        return
    try:
        FACTS.inc(await facts.add(decoded))
    except Exception as error:
        if kind_of(error) is Kind.OUTAGE:
            raise
        await _save_halves(decoded, facts, error)


async def _save_halves(decoded: Sequence[Fact], facts: FactTable, error: Exception) -> None:
    if len(decoded) == 1:
        _skip(decoded[0].topic, decoded[0].partition, decoded[0].offset, "refused", one_line(error))
        return
    middle = len(decoded) // 2
    for part in (decoded[:middle], decoded[middle:]):
        await _save(part, facts)


def _skip(topic: str, partition: int, offset: int, reason: str, error: str = "") -> None:
    SKIPPED.labels(reason).inc()
    log.warning("fact.skipped", topic=topic, partition=partition, offset=offset, reason=reason, error=error)
