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
from services.cli.core.usage import UsageError
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, print_json, say, spinner
from shared.errors import Outage, Rejected
from shared.events import EtlCompleted, EtlRequested
from shared.text import visible

POLL_SECONDS: Final = 1.0
"""Interval of progress queries."""


async def run_etl(
    dataset: str = "users",
    *,
    wait: Annotated[bool, Parameter(negative="--no-wait")] = True,
    timeout: float = 600,  # noqa: ASYNC109 - a flag of the command
    json: Json = False,
) -> int:
    """Compare a dataset's bucket with its table, and load the objects that differ.

    etl loads files and images as they are stored; this finds those whose
    notifications were lost.

    For example:
        penstock etl run
        penstock etl run users --timeout 60
        penstock etl run --no-wait --json

    Parameters
    ----------
    dataset:
        Name of the dataset (users).
    wait:
        Wait for the result; without it, see `penstock etl status` later.
    timeout:
        Seconds to wait (600).

    """
    settings = load()
    if dataset not in (known := await known_datasets(settings)):
        raise UsageError(
            f"etl run: there is no dataset {visible(dataset)}: known datasets are {', '.join(known) or 'none'}"
        )
    if reason := known[dataset]:
        raise Rejected("DATASET_REFUSED", f"etl refuses the dataset {dataset}: {visible(reason)}")
    load_id = uuid.uuid4().hex
    request = EtlRequested(load_id=load_id, dataset=dataset, correlation_id=load_id)
    if not wait:
        await kafka.publish_one(settings, request)
        print_json({"load_id": load_id, "dataset": dataset}) if json else say(f"load {load_id} of {dataset} requested")
        return 0
    with spinner(f"loading {dataset}") as status:
        result = await _request_and_wait(settings, request, timeout, status)
    print_json(result.model_dump(mode="json")) if json else _show(result)
    return 0


async def _request_and_wait(
    settings: CliSettings, request: EtlRequested, seconds: float, status: Status
) -> EtlCompleted:
    """Open the reader before the request is published, so that it does not miss the result."""
    async with kafka.open_reader_at_end(settings, EtlCompleted.topic.name) as reader:
        await kafka.publish_one(settings, request)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await _first(_result(reader, request), _watch_progress(settings, request, status))
    raise Outage(
        f"load {request.load_id} has no result after {seconds:g} s: is etl running, and has its datasets file a "
        f"section {request.dataset}? See penstock etl status and penstock dlq list"
    )


async def _first(*sources: Awaitable[EtlCompleted]) -> EtlCompleted:
    """Return the first result, and cancel the other source."""
    tasks = [asyncio.ensure_future(source) for source in sources]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _result(reader: Any, request: EtlRequested) -> EtlCompleted:
    async for record in kafka.follow(reader):
        if record.key == request.record_key.encode() and record.value is not None:
            found = EtlCompleted.model_validate_json(record.value)
            if found.load_id == request.load_id:
                return require_success(found)
    raise AssertionError  # `follow` never ends


def require_success(result: EtlCompleted) -> EtlCompleted:
    """Return `result`; raise Rejected (LOAD_FAILED) if the load failed."""
    if result.state == "failed":
        raise Rejected("LOAD_FAILED", f"load {result.load_id} of {result.dataset} failed: {visible(result.error)}")
    return result


async def _watch_progress(settings: CliSettings, request: EtlRequested, status: Status) -> EtlCompleted:
    """Show the progress of the load; raise Rejected (LOAD_FAILED) if it failed."""
    while True:
        await asyncio.sleep(POLL_SECONDS)
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
        say(f"Next: penstock etl rejects {result.dataset}", style="dim")
    for output in result.outputs:
        say(f"  s3://{output}", style="dim")
