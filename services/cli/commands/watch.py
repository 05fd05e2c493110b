"""`penstock watch`: facts as they are published."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from json import loads
from typing import Any

from rich.text import Text

from services import catalogue
from services.cli.adapters import kafka
from services.cli.adapters.dead_letters import dead_letter_topics
from services.cli.adapters.http import IngressClient
from services.cli.core.facts import Fact, FactFilter, decode, decode_rendered, describe
from services.cli.core.text import parse_duration
from services.cli.core.usage import UsageError
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, console, note, print_json
from shared.errors import Rejected
from shared.lags import partition_counts


@dataclass(frozen=True, slots=True)
class Window:
    """Where to start reading, how many facts to show (0: no limit), and for how many seconds (None: no limit)."""

    since: datetime | None = None
    from_start: bool = False
    count: int = 0
    seconds: float | None = None


async def watch(  # noqa: PLR0913 - flags of the command
    *,
    bucket: str = "",
    prefix: str = "",
    key: str = "",
    type: tuple[str, ...] = (),  # noqa: A002 - a flag of the command
    topic: tuple[str, ...] = (),
    since: str = "",
    from_start: bool = False,
    count: int = 0,
    duration: str = "",
    url: str = "",
    json: Json = False,
) -> int:
    """Follow the facts on the bus, live, dead letters included.

    Reads without a consumer group, so no offsets change.

    For example:
        penstock watch
        penstock watch --bucket inbox --prefix reports/ --type objects.hashed
        penstock watch --since 10m --json | jq -r .data.key
        penstock watch --url http://127.0.0.1:8080 --bucket inbox
        penstock watch --from-start --key reports/report.pdf --duration 5s

    Parameters
    ----------
    bucket:
        Only facts about objects of this bucket.
    prefix:
        Only facts about objects whose key has this prefix.
    key:
        Only facts about this object.
    type:
        Only facts of this type, by its beginning: objects, objects.hashed, sweeps ...
    topic:
        Read these topics instead of all facts and dead letters.
    since:
        Start this long ago: 90s, 10m, 2h, 1d.
    from_start:
        Start with the oldest retained fact.
    count:
        Stop after this many facts.
    duration:
        Stop after this long.
    url:
        Follow the ingress at this URL, with PENSTOCK_TOKEN, instead of the topics; --json prints its rendering.

    """
    if url and (since or topic):
        raise UsageError("watch: --since and --topic read from Kafka, --url does not: omit them or --url")
    window = _window(since, from_start=from_start, count=count, length=duration)
    fact_filter = FactFilter(bucket=bucket, prefix=prefix, key=key, types=type)
    with suppress(TimeoutError):
        async with asyncio.timeout(window.seconds):
            if url:
                await _watch_ingress(load(), url, fact_filter, window, json=json)
            else:
                await _watch(load(), topic, fact_filter, window, json=json)
    return 0


async def _watch(
    settings: CliSettings, topics: Sequence[str], fact_filter: FactFilter, window: Window, *, json: bool
) -> None:
    shown = 0
    async with kafka.open_reader(settings) as reader:
        async for fact in _facts(settings, reader, topics, window):
            if fact_filter.matches(fact):
                print_json(fact.document(), indent=None) if json else _show(fact)
                shown += 1
                if shown == window.count:
                    return


async def _watch_ingress(
    settings: CliSettings, url: str, fact_filter: FactFilter, window: Window, *, json: bool
) -> None:
    shown = 0
    query = {
        "bucket": fact_filter.bucket,
        "prefix": fact_filter.prefix,
        "type": [f"{one}*" for one in fact_filter.types],
    }
    if not window.from_start:
        note("watching; press Ctrl-C to stop")
    async with (
        IngressClient.from_settings(settings, url) as ingress,
        aclosing(ingress.events(query, after="0" if window.from_start else "")) as events,
    ):
        async for event in events:
            rendered = loads(event.data)
            if fact_filter.key and rendered["key"] != fact_filter.key:
                continue
            print_json(rendered, indent=None) if json else _show(decode_rendered(rendered))
            shown += 1
            if shown == window.count:
                return


def _window(since: str, *, from_start: bool, count: int, length: str) -> Window:
    try:
        begin = datetime.now(UTC) - parse_duration(since) if since else None
        seconds = parse_duration(length).total_seconds() if length else None
    except ValueError as error:
        raise UsageError(f"watch: {error}") from None
    return Window(begin, from_start, count, seconds)


async def _facts(settings: CliSettings, reader: Any, topics: Sequence[str], window: Window) -> AsyncIterator[Fact]:
    partitions = await kafka.assign(settings, reader, topics or await _all_facts(settings))
    if window.from_start:
        await kafka.seek_to_start(reader, partitions)
    elif window.since:
        await kafka.seek_to_time(reader, partitions, window.since)
    else:
        await kafka.seek_to_end(reader, partitions)
        note("watching; press Ctrl-C to stop")
    async for record in kafka.follow(reader):
        yield decode(
            record.topic,
            record.partition,
            record.offset,
            timestamp_ms=record.timestamp,
            key=record.key,
            value=record.value,
            headers=record.headers,
        )


async def _all_facts(settings: CliSettings) -> list[str]:
    async with kafka.open_admin(settings) as admin:
        existing = await partition_counts(admin, (kind.topic.name for kind in catalogue.manifests().events))
        if not existing:
            raise Rejected("NOT_SET_UP", "watch: no topic of facts exists: run `penstock setup`")
        return [*existing, *await dead_letter_topics(admin)]


def _show(fact: Fact) -> None:
    line = describe(fact)
    text = Text.assemble(
        (f"{fact.at.astimezone():%H:%M:%S}", "dim"), "  ", (f"{line.word:<10}", line.style), line.subject
    )
    console().print(text.append(f"  {line.detail}", "dim") if line.detail else text)
