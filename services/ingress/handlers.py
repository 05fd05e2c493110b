"""Facts in, the timeline out: every fact and every dead letter there is, whatever its bytes are."""

from collections.abc import Sequence

import structlog
from prometheus_client import Counter

from services.ingress.adapters.fact_table import FactTable
from services.ingress.core.facts import Fact, NoFact, fact_of
from shared.bus import Received, Router
from shared.errors import Kind, kind_of, one_line
from shared.events import Event
from shared.middleware.records import Record
from shared.topics import CONSUMERS

log = structlog.get_logger()
router = Router("ingress")

FACTS = Counter("penstock_ingress_facts_total", "Facts that were new to the timeline.")
SKIPPED = Counter("penstock_ingress_records_skipped_total", "Records that are not shown, by why.", ["reason"])

Batch = Sequence[Received[Fact | None]]


def read(record: Record) -> Fact | None:
    """Return what a record says; None for one that says nothing: it is a dead letter of whoever needs it."""
    try:
        return fact_of(record)
    except NoFact as error:
        _skip(record.topic, record.partition, record.offset, str(error))
    except Exception as error:  # noqa: BLE001 - showing facts may stop for none of them
        _skip(record.topic, record.partition, record.offset, "unreadable", one_line(error))
    return None


@router.consumes(*CONSUMERS["ingress"], decode=read, payload=Event, max_records=1000)
async def keep_facts(batch: Batch, facts: FactTable) -> None:
    """Keep every fact once, in the order in which it comes."""
    await _keep([received.event for received in batch if received.event is not None], facts)


async def _keep(told: Sequence[Fact], facts: FactTable) -> None:
    """Keep facts; one that the database refuses is left out, and never put among the dead letters."""
    if not told:
        return
    try:
        FACTS.inc(await facts.add(told))
    except Exception as error:
        if kind_of(error) is Kind.OUTAGE:
            raise
        await _keep_apart(told, facts, error)


async def _keep_apart(told: Sequence[Fact], facts: FactTable, error: Exception) -> None:
    if len(told) == 1:
        _skip(told[0].topic, told[0].partition, told[0].offset, "refused", one_line(error))
        return
    middle = len(told) // 2
    for part in (told[:middle], told[middle:]):
        await _keep(part, facts)


def _skip(topic: str, partition: int, offset: int, reason: str, error: str = "") -> None:
    SKIPPED.labels(reason).inc()
    log.warning("fact.skipped", topic=topic, partition=partition, offset=offset, reason=reason, error=error)
