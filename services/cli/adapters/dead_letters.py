"""Dead letters on their topics, and the facts that resolve them."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from services.cli.adapters.kafka import Record, assign, open_admin, publish, read_to_end
from services.cli.core.dead_letters import DeadLetter, RecordPosition, Selection, replay_target
from services.cli.settings import CliSettings
from shared.events import DeadLetterSettled
from shared.lags import partition_counts
from shared.topics import DEAD_LETTER_SUFFIX, DEAD_LETTERS_SETTLED

Action = Literal["replayed", "discarded"]


async def dead_letter_topics(admin: Any) -> list[str]:
    """Return all dead letter topics of the broker, including those of services that this version does not know."""
    return sorted(name for name in await admin.list_topics() if name.endswith(DEAD_LETTER_SUFFIX))


async def resolved_positions(settings: CliSettings, reader: Any) -> set[RecordPosition]:
    """Return the positions of replayed and discarded dead letters; empty if the topic of these facts does not exist."""
    async with open_admin(settings) as admin:
        existing = await partition_counts(admin, [DEAD_LETTERS_SETTLED.name])
    if not existing:
        return set()
    positions = set()
    partitions = await assign(settings, reader, list(existing))
    async for record in read_to_end(reader, partitions):
        # an undecodable record resolves nothing
        with suppress(ValidationError):
            fact = DeadLetterSettled.model_validate_json(record.value or b"")
            positions.add(RecordPosition(fact.dlq_topic, fact.partition, fact.offset))
    return positions


async def unresolved_dead_letters(
    settings: CliSettings, reader: Any, selection: Selection, *, bodies: bool = True
) -> AsyncIterator[DeadLetter]:
    """Yield the selected dead letters that are unresolved, oldest first per topic; with their bodies if `bodies`."""
    resolved = await resolved_positions(settings, reader)
    async for dead_letter in _dead_letters(settings, reader, selection):
        if dead_letter.position not in resolved and selection.matches(dead_letter):
            yield dead_letter if bodies else replace(dead_letter, body=None)


async def find_dead_letter(settings: CliSettings, reader: Any, position: RecordPosition) -> DeadLetter | None:
    """Return the dead letter at `position`, resolved or not; None if it does not exist or its retention is over."""
    async for dead_letter in _dead_letters(settings, reader, Selection(position)):
        if dead_letter.position == position:
            return dead_letter
    return None


async def _dead_letters(settings: CliSettings, reader: Any, selection: Selection) -> AsyncIterator[DeadLetter]:
    async with open_admin(settings) as admin:
        topics = await dead_letter_topics(admin)
    if selection.position:
        topics = [topic for topic in topics if topic == selection.position.topic]
    if topics:
        partitions = await assign(settings, reader, topics)
        async for record in read_to_end(reader, partitions):
            yield _to_dead_letter(record)


def _to_dead_letter(record: Record) -> DeadLetter:
    headers = tuple((name, value or b"") for name, value in record.headers)
    return DeadLetter(RecordPosition(record.topic, record.partition, record.offset), record.key, record.value, headers)


async def replay(producer: Any, dead_letter: DeadLetter) -> None:
    """Publish the record to its original topic, then resolve the dead letter; a crash between repeats the replay."""
    topic, headers = replay_target(dead_letter)
    await producer.send_and_wait(topic, dead_letter.body, key=dead_letter.key, headers=headers)
    await resolve(producer, dead_letter, "replayed")


async def discard(producer: Any, dead_letter: DeadLetter) -> None:
    """Resolve the dead letter without a replay."""
    await resolve(producer, dead_letter, "discarded")


async def resolve(producer: Any, dead_letter: DeadLetter, action: Action) -> None:
    """Publish the fact that the dead letter was replayed or discarded."""
    position = dead_letter.position
    await publish(
        producer,
        DeadLetterSettled(
            dlq_topic=position.topic,
            partition=position.partition,
            offset=position.offset,
            action=action,
            at=datetime.now(UTC),
            correlation_id=dict(dead_letter.headers).get("correlation_id", b"").decode("utf-8", "replace"),
        ),
    )
