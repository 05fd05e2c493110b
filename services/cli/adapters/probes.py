"""Probes of `penstock doctor`: the services' health endpoints, and the round trip of one object."""

import asyncio
import os
import time
import uuid
from typing import Any

import httpx

from services.cli.adapters import kafka, s3, stack
from services.cli.adapters.errors import translate_errors
from services.cli.core.address import Address
from services.cli.core.findings import START_COMMAND, Finding
from services.cli.settings import CliSettings
from shared.errors import Outage, one_line
from shared.events import ObjectHashed

FOLDER = ".penstock/"
HEALTH_SECONDS = 5.0
ROUND_TRIP_SECONDS = 30.0
SLOW_SECONDS = 5.0
"""A slower round trip used the safe lane, or a service lags."""


async def health(settings: CliSettings) -> list[Finding]:
    """Query the readiness of each process of the stack."""
    try:
        running = await stack.processes(settings)
    except Outage as outage:
        return [Finding("processes", ok=False, detail=one_line(outage).partition(":")[0], fix=START_COMMAND)]
    ports = stack.health_ports(running)
    async with httpx.AsyncClient(timeout=HEALTH_SECONDS, trust_env=False) as client:
        return await asyncio.gather(*(_process(client, one, ports.get(str(one["name"]))) for one in running))


async def _process(client: httpx.AsyncClient, one: dict[str, Any], port: int | None) -> Finding:
    name = str(one["name"])
    if one["state"] not in stack.HEALTHY_STATES:
        fix = f"see why {name} ended: make logs; start it again: make up"
        return Finding(name, ok=False, detail=f"is {one['state']}", fix=fix)
    if port is None:
        return Finding(name, ok=True, detail=str(one["state"]))
    try:
        answer = await client.get(f"http://127.0.0.1:{port}/health/ready")
    except httpx.HTTPError as error:
        return Finding(name, ok=False, detail=f"health endpoint on port {port}: {one_line(error)}", fix="make logs")
    detail = "ready" if answer.is_success else f"not ready: {answer.text[:200]}"
    return Finding(name, answer.is_success, detail, f"see what {name} waits for: make logs")


async def round_trip(settings: CliSettings) -> list[Finding]:
    """Store a probe object, wait for its digests on the bus, and remove it and older probes."""
    bucket = settings.input_buckets[0]
    probe = Address(bucket, f"{FOLDER}probe-{uuid.uuid4().hex}")
    async with kafka.open_reader_at_end(settings, ObjectHashed.topic.name) as reader:
        with translate_errors(s3.name_of(settings)):
            async with s3.open_s3(settings) as client:
                await _remove_probes(client, bucket)
                started = time.monotonic()
                await client.put_object(Bucket=bucket, Key=probe.key, Body=os.urandom(64))
                try:
                    seconds = await _seconds_to_digest(reader, probe, started)
                finally:
                    await _remove_probes(client, bucket)
    if seconds is None:
        detail = f"no digest of {probe} within {ROUND_TRIP_SECONDS:g} s"
        return [Finding("round trip", ok=False, detail=detail, fix="see which service lags: penstock status")]
    slow = " (slow: the live lane may be down; see the notification rules)" if seconds > SLOW_SECONDS else ""
    return [Finding("round trip", ok=True, detail=f"{seconds * 1000:.0f} ms from PUT to digest{slow}")]


async def _seconds_to_digest(reader: Any, probe: Address, started: float) -> float | None:
    name = f"{probe.bucket}/{probe.key}".encode()
    try:
        async with asyncio.timeout(ROUND_TRIP_SECONDS):
            async for record in kafka.follow(reader):
                if record.key == name:
                    return time.monotonic() - started
    except TimeoutError:
        pass
    return None


async def _remove_probes(client: Any, bucket: str) -> None:
    listed = await client.list_objects_v2(Bucket=bucket, Prefix=f"{FOLDER}probe-")
    for one in listed.get("Contents", ()):
        await client.delete_object(Bucket=bucket, Key=one["Key"])
