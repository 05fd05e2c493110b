"""`penstock sweep`: find what was never notified."""

import asyncio
import uuid
from contextlib import suppress
from typing import Annotated, Any

from cyclopts import Parameter

from services.cli.adapters import kafka
from services.cli.core.text import plural
from services.cli.core.usage import WrongUsage
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, emit, say, spinner
from shared.errors import Outage
from shared.events import SweepCompleted, SweepRequested


async def sweep(
    *buckets: str,
    prefix: str = "",
    retell: bool = False,
    wait: Annotated[bool, Parameter(negative="--no-wait")] = True,
    timeout: float = 600,  # noqa: ASYNC109 - a flag of the command
    json: Json = False,
) -> int:
    """Compare the buckets with what is known, now.

    What was never notified is published, what is gone is marked as removed.

    For example:
        penstock sweep
        penstock sweep inbox --prefix reports/
        penstock sweep --no-wait --json
        penstock sweep --retell

    Parameters
    ----------
    buckets:
        Input buckets; all of them unless named.
    prefix:
        Only keys that begin so.
    retell:
        Publish also what is known, for a service that is new or has lost its rows; it reads what it lacks.
    wait:
        Wait for the result; without it, `penstock status` tells it later.
    timeout:
        Seconds to wait (600).

    """
    settings = load()
    if foreign := set(buckets) - set(settings.input_buckets):
        raise WrongUsage(f"sweep: {', '.join(sorted(foreign))} is no input bucket; see PENSTOCK_INPUT_BUCKETS")
    sweep_id = uuid.uuid4().hex
    request = SweepRequested(sweep_id=sweep_id, buckets=buckets, prefix=prefix, retell=retell, correlation_id=sweep_id)
    if not wait:
        await _ask(settings, request)
        emit({"sweep_id": sweep_id}) if json else say(f"sweep {sweep_id} requested")
        return 0
    with spinner("sweeping"):
        result = await _ask_and_wait(settings, request, timeout)
    emit(result.model_dump(mode="json")) if json else _show(result)
    return 0


async def _ask(settings: CliSettings, request: SweepRequested) -> None:
    async with kafka.open_producer(settings) as producer:
        await kafka.publish(producer, request)


async def _ask_and_wait(settings: CliSettings, request: SweepRequested, seconds: float) -> SweepCompleted:
    """Stand at the end of the answers before asking, so that none can be missed."""
    async with kafka.open_reader(settings) as reader:
        partitions = await kafka.assign(settings, reader, [SweepCompleted.topic.name])
        await kafka.seek_to_now(reader, partitions)
        await _ask(settings, request)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await _answer(reader, request.sweep_id)
    raise Outage(f"sweep {request.sweep_id} has no result after {seconds:g} s; does ingest run? see penstock status")


async def _answer(reader: Any, sweep_id: str) -> SweepCompleted:
    async for record in kafka.follow(reader):
        if record.key == sweep_id.encode() and record.value is not None:
            return SweepCompleted.model_validate_json(record.value)
    raise AssertionError  # the reader never ends


def _show(result: SweepCompleted) -> None:
    where = ", ".join(result.buckets) + (f" below {result.prefix}" if result.prefix else "")
    say(f"{plural(result.listed, 'object')} in {where}, {result.seconds:.1f} s")
    style = "yellow" if result.missed or result.vanished else "green"
    retold = f"   retold {result.retold:,}" if result.retold else ""
    say(f"missed {result.missed:,}   vanished {result.vanished:,}{retold}", style=style)
