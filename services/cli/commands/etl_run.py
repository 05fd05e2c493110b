"""`penstock etl run`: compare a dataset's bucket with its table, now."""

import asyncio
import uuid
from collections.abc import Awaitable
from contextlib import suppress
from typing import Annotated, Any, Final

from cyclopts import Parameter
from rich.status import Status

from services.cli.adapters import kafka
from services.cli.adapters.datasets import known_datasets, load_of
from services.cli.core.loads import describe_load
from services.cli.core.text import plural
from services.cli.core.usage import WrongUsage
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, emit, say, spinner
from shared.errors import Outage, Rejected
from shared.events import EtlCompleted, EtlRequested
from shared.text import visible

LOOK_SECONDS: Final = 1.0
"""Between two looks at how far the load is."""


async def run_etl(
    dataset: str = "users",
    *,
    wait: Annotated[bool, Parameter(negative="--no-wait")] = True,
    timeout: float = 600,  # noqa: ASYNC109 - a flag of the command
    json: Json = False,
) -> int:
    """Compare a dataset's bucket with its table, and read what differs.

    Files and images are read as they are stored; this finds what nobody was told of.

    For example:
        penstock etl run
        penstock etl run users --timeout 60
        penstock etl run --no-wait --json

    Parameters
    ----------
    dataset:
        As the file of datasets names it (users).
    wait:
        Wait for the result; without it, `penstock etl status` tells it later.
    timeout:
        Seconds to wait (600).

    """
    settings = load()
    if dataset not in (known := await known_datasets(settings)):
        raise WrongUsage(f"etl run: there is no dataset {visible(dataset)}; there are {', '.join(known) or 'none'}")
    if reason := known[dataset]:
        raise Rejected("DATASET_REFUSED", f"etl refuses the dataset {dataset}: {visible(reason)}")
    load_id = uuid.uuid4().hex
    request = EtlRequested(load_id=load_id, dataset=dataset, correlation_id=load_id)
    if not wait:
        await _ask(settings, request)
        emit({"load_id": load_id, "dataset": dataset}) if json else say(f"load {load_id} of {dataset} requested")
        return 0
    with spinner(f"loading {dataset}") as status:
        result = await _ask_and_wait(settings, request, timeout, status)
    emit(result.model_dump(mode="json")) if json else _show(result)
    return 0


async def _ask(settings: CliSettings, request: EtlRequested) -> None:
    async with kafka.open_producer(settings) as producer:
        await kafka.publish(producer, request)


async def _ask_and_wait(settings: CliSettings, request: EtlRequested, seconds: float, status: Status) -> EtlCompleted:
    """Stand at the end of the answers before asking, so that none can be missed."""
    async with kafka.open_reader(settings) as reader:
        partitions = await kafka.assign(settings, reader, [EtlCompleted.topic.name])
        await kafka.seek_to_now(reader, partitions)
        await _ask(settings, request)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await _first(_answer(reader, request), _watch(settings, request, status))
    raise Outage(
        f"load {request.load_id} has no result after {seconds:g} s: does etl run, and has its file of datasets a "
        f"section {request.dataset}? see penstock etl status and penstock dlq list"
    )


async def _first(*ways: Awaitable[EtlCompleted]) -> EtlCompleted:
    """Return what comes first, and give the other up."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(reader: Any, request: EtlRequested) -> EtlCompleted:
    async for record in kafka.follow(reader):
        if record.key == request.record_key.encode() and record.value is not None:
            found = EtlCompleted.model_validate_json(record.value)
            if found.load_id == request.load_id:
                return succeeded(found)
    raise AssertionError  # the reader never ends


def succeeded(result: EtlCompleted) -> EtlCompleted:
    """Return the result of a load; raises Rejected, LOAD_FAILED, for one that failed."""
    if result.state == "failed":
        raise Rejected("LOAD_FAILED", f"load {result.load_id} of {result.dataset} failed: {visible(result.error)}")
    return result


async def _watch(settings: CliSettings, request: EtlRequested, status: Status) -> EtlCompleted:
    """Show how far the load is until the answer comes, and end with it when it failed."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        with suppress(Outage):
            row = await load_of(settings, request.load_id, request.dataset)
            if row is None:
                continue
            if row["progress"]:
                status.update(f"loading {request.dataset}: {describe_load(row)}")
            if row["state"] == "failed":
                raise Rejected("LOAD_FAILED", f"load {request.load_id} of {request.dataset} failed: {row['error']}")


def _show(result: EtlCompleted) -> None:
    say(f"{result.dataset}: {plural(result.listed, 'object')} in the bucket, {result.seconds:.1f} s")
    say(describe_load(result.model_dump()), style="yellow" if result.rejected else "green")
    if result.rejected:
        say(f"penstock etl rejects {result.dataset} tells why", style="dim")
    for output in result.outputs:
        say(f"  s3://{output}", style="dim")
