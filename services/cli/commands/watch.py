"""`penstock watch`: facts as they happen."""

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
from services.cli.adapters.http import Ingress
from services.cli.adapters.letters import topics_of
from services.cli.core.facts import Fact, Filter, decode, decode_told, describe
from services.cli.core.text import duration as length_of
from services.cli.core.usage import WrongUsage
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, console, emit, note
from shared.errors import Rejected
from shared.lags import partition_counts


@dataclass(frozen=True, slots=True)
class Window:
    """From when to read, how many facts to show (0: no end), and for how many seconds (None: no end)."""

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

    It reads without a group, so nobody's offsets are moved.

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
        Only facts about objects whose key begins so.
    key:
        Only facts about this object.
    type:
        Only facts of this type, by its beginning: objects, objects.hashed, sweeps ...
    topic:
        Read these topics instead of all facts and dead letters.
    since:
        Begin this long ago: 90s, 10m, 2h, 1d.
    from_start:
        Begin with the oldest fact that is kept.
    count:
        Stop after this many facts.
    duration:
        Stop after this long.
    url:
        Follow the ingress at this address, with PENSTOCK_TOKEN, instead of the topics; --json is as it tells facts.

    """
    if url and (since or topic):
        raise WrongUsage("watch: --since and --topic ask Kafka itself; leave them out, or --url")
    window = _window(since, from_start=from_start, count=count, length=duration)
    chosen = Filter(bucket=bucket, prefix=prefix, key=key, types=type)
    with suppress(TimeoutError):
        async with asyncio.timeout(window.seconds):
            if url:
                await _watch_ingress(load(), url, chosen, window, json=json)
            else:
                await _watch(load(), topic, chosen, window, json=json)
    return 0


async def _watch(settings: CliSettings, topics: Sequence[str], chosen: Filter, window: Window, *, json: bool) -> None:
    shown = 0
    async with kafka.open_reader(settings) as reader:
        async for fact in _facts(settings, reader, topics, window):
            if chosen.lets(fact):
                emit(fact.document(), indent=None) if json else _show(fact)
                shown += 1
                if shown == window.count:
                    return


async def _watch_ingress(settings: CliSettings, url: str, chosen: Filter, window: Window, *, json: bool) -> None:
    shown = 0
    query = {"bucket": chosen.bucket, "prefix": chosen.prefix, "type": [f"{one}*" for one in chosen.types]}
    if not window.from_start:
        note("watching; Ctrl-C ends it")
    async with (
        Ingress.of(settings, url) as ingress,
        aclosing(ingress.events(query, after="0" if window.from_start else "")) as events,
    ):
        async for event in events:
            told = loads(event.data)
            if chosen.key and told["key"] != chosen.key:
                continue
            emit(told, indent=None) if json else _show(decode_told(told))
            shown += 1
            if shown == window.count:
                return


def _window(since: str, *, from_start: bool, count: int, length: str) -> Window:
    try:
        begin = datetime.now(UTC) - length_of(since) if since else None
        seconds = length_of(length).total_seconds() if length else None
    except ValueError as error:
        raise WrongUsage(f"watch: {error}") from None
    return Window(begin, from_start, count, seconds)


async def _facts(settings: CliSettings, reader: Any, topics: Sequence[str], window: Window) -> AsyncIterator[Fact]:
    partitions = await kafka.assign(settings, reader, topics or await _all_facts(settings))
    if window.from_start:
        await kafka.seek_to_start(reader, partitions)
    elif window.since:
        await kafka.seek_to_time(reader, partitions, window.since)
    else:
        await kafka.seek_to_now(reader, partitions)
        note("watching; Ctrl-C ends it")
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
        there = await partition_counts(admin, (kind.topic.name for kind in catalogue.manifests().events))
        if not there:
            raise Rejected("NOT_SET_UP", "watch: there is no topic of facts; run `penstock setup`")
        return [*there, *await topics_of(admin)]


def _show(fact: Fact) -> None:
    line = describe(fact)
    text = Text.assemble(
        (f"{fact.at.astimezone():%H:%M:%S}", "dim"), "  ", (f"{line.word:<10}", line.style), line.subject
    )
    console().print(text.append(f"  {line.detail}", "dim") if line.detail else text)
