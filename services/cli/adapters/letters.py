"""Dead letters on their topics, and the facts that settle them."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from services.cli.adapters.kafka import Record, assign, open_admin, publish, read_through
from services.cli.core.letters import Choice, Letter, Place, way_back
from services.cli.settings import CliSettings
from shared.events import DeadLetterSettled
from shared.lags import partition_counts
from shared.topics import DEAD_LETTERS_SETTLED

SUFFIX = ".dlq"

Action = Literal["replayed", "discarded"]


async def topics_of(admin: Any) -> list[str]:
    """Return every dead letter topic there is, those of services we do not know included."""
    return sorted(name for name in await admin.list_topics() if name.endswith(SUFFIX))


async def settled_places(settings: CliSettings, reader: Any) -> set[Place]:
    """Return what was settled; nothing, when the topic that says so is not there."""
    async with open_admin(settings) as admin:
        there = await partition_counts(admin, [DEAD_LETTERS_SETTLED.name])
    if not there:
        return set()
    places = set()
    partitions = await assign(settings, reader, list(there))
    async for record in read_through(reader, partitions):
        # what is no such fact settles nothing
        with suppress(ValidationError):
            fact = DeadLetterSettled.model_validate_json(record.value or b"")
            places.add(Place(fact.dlq_topic, fact.partition, fact.offset))
    return places


async def unsettled_letters(
    settings: CliSettings, reader: Any, choice: Choice, *, bodies: bool = True
) -> AsyncIterator[Letter]:
    """Yield the letters of `choice` that wait, oldest first in each topic; without `bodies`, what lists them."""
    settled = await settled_places(settings, reader)
    async for letter in _letters(settings, reader, choice):
        if letter.place not in settled and choice.takes(letter):
            yield letter if bodies else replace(letter, body=None)


async def letter_at(settings: CliSettings, reader: Any, place: Place) -> Letter | None:
    """Return one letter, settled or not; None when it is not there (any more)."""
    async for letter in _letters(settings, reader, Choice(place)):
        if letter.place == place:
            return letter
    return None


async def _letters(settings: CliSettings, reader: Any, choice: Choice) -> AsyncIterator[Letter]:
    async with open_admin(settings) as admin:
        topics = [name for name in await topics_of(admin) if choice.place is None or name == choice.place.topic]
    if topics:
        partitions = await assign(settings, reader, topics)
        async for record in read_through(reader, partitions):
            yield _letter(record)


def _letter(record: Record) -> Letter:
    headers = tuple((name, value or b"") for name, value in record.headers)
    return Letter(Place(record.topic, record.partition, record.offset), record.key, record.value, headers)


async def send_back(producer: Any, letter: Letter) -> None:
    """Publish a letter where it came from, then settle it; a crash between the two only repeats it."""
    topic, headers = way_back(letter)
    await producer.send_and_wait(topic, letter.body, key=letter.key, headers=headers)
    await settle(producer, letter, "replayed")


async def settle(producer: Any, letter: Letter, action: Action) -> None:
    """Publish that a letter needs nobody any more."""
    place = letter.place
    await publish(
        producer,
        DeadLetterSettled(
            dlq_topic=place.topic,
            partition=place.partition,
            offset=place.offset,
            action=action,
            at=datetime.now(UTC),
            correlation_id=dict(letter.headers).get("correlation_id", b"").decode("utf-8", "replace"),
        ),
    )
