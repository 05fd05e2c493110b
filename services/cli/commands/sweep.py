"""`penstock sweep`: find changes whose notifications were lost."""

import asyncio
import uuid
from contextlib import suppress
from typing import Annotated, Any

from cyclopts import Parameter

from services.cli.adapters import kafka
from services.cli.core.text import plural
from services.cli.core.usage import UsageError
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, print_json, say, spinner
from shared.errors import Outage
from shared.events import SweepCompleted, SweepRequested


async def sweep(
    *buckets: str,
    prefix: str = "",
    republish: Annotated[bool, Parameter(alias="--retell")] = False,
    wait: Annotated[bool, Parameter(negative="--no-wait")] = True,
    timeout: float = 600,  # noqa: ASYNC109 - a flag of the command
    json: Json = False,
) -> int:
    """Compare the buckets with the recorded objects, now.

    Publishes a fact for each object whose notification was lost and for each
    recorded object that is gone.

    For example:
        penstock sweep
        penstock sweep inbox --prefix reports/
        penstock sweep --no-wait --json
        penstock sweep --republish

    Parameters
    ----------
    buckets:
        Input buckets; default: all of them.
    prefix:
        Only keys with this prefix.
    republish:
        Also publish recorded objects again, for a service that is new or has lost its rows.
    wait:
        Wait for the result; without it, see `penstock status` later.
    timeout:
        Seconds to wait (600).

    """
    settings = load()
    if unknown := set(buckets) - set(settings.input_buckets):
        raise UsageError(
            f"sweep: {', '.join(sorted(unknown))} is not an input bucket: choose from PENSTOCK_INPUT_BUCKETS"
        )
    sweep_id = uuid.uuid4().hex
    request = SweepRequested(
        sweep_id=sweep_id, buckets=buckets, prefix=prefix, retell=republish, correlation_id=sweep_id
    )
    if not wait:
        await kafka.publish_one(settings, request)
        print_json({"sweep_id": sweep_id}) if json else say(f"sweep {sweep_id} requested")
        return 0
    with spinner("sweeping"):
        result = await _request_and_wait(settings, request, timeout)
    print_json(result.model_dump(mode="json")) if json else _show(result)
    return 0


async def _request_and_wait(settings: CliSettings, request: SweepRequested, seconds: float) -> SweepCompleted:
    """Open the reader before the request is published, so that it does not miss the result."""
    async with kafka.open_reader_at_end(settings, SweepCompleted.topic.name) as reader:
        await kafka.publish_one(settings, request)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await _result(reader, request.sweep_id)
    raise Outage(f"sweep {request.sweep_id} has no result after {seconds:g} s: is ingest running? See penstock status")


async def _result(reader: Any, sweep_id: str) -> SweepCompleted:
    async for record in kafka.follow(reader):
        if record.key == sweep_id.encode() and record.value is not None:
            return SweepCompleted.model_validate_json(record.value)
    raise AssertionError  # `follow` never ends


def _show(result: SweepCompleted) -> None:
    where = ", ".join(result.buckets) + (f" below {result.prefix}" if result.prefix else "")
    say(f"{plural(result.listed, 'object')} in {where}, {result.seconds:.1f} s")
    style = "yellow" if result.missed or result.vanished else "green"
    republished = f"   republished {result.retold:,}" if result.retold else ""
    say(f"missed {result.missed:,}   vanished {result.vanished:,}{republished}", style=style)
