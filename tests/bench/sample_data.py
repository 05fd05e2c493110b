"""Sample data: facts that the real services published once, published again byte for byte for every run."""

import json
from collections.abc import Sequence
from typing import Any

import bodies
from benchmark import Benchmark

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED


async def notifications_of(bench: Benchmark, names: Sequence[str]) -> list[Any]:
    """Store objects while no service runs; return the records that the object store wrote on both lanes."""
    before = await bench.ends(MINIO_LIVE, MINIO_SAFE)
    await bench.put_all(names)
    await bench.wait_for_records(before, 2 * len(names))
    return await bench.records(before)


async def facts_of(bench: Benchmark, names: Sequence[str], size: int = bodies.SMALL) -> list[Any]:
    """Store objects and let ingest publish their facts; return the records it wrote."""
    before, safe = await bench.ends(OBJECTS_CHANGED), await bench.ends(MINIO_SAFE)
    with bench.running("ingest", PENSTOCK_SWEEP_AT_START="false"):
        await bench.put_all(names, size)
        await bench.wait_for_records(before, len(names))
        await bench.wait_for_records(safe, len(names))
        await bench.wait_for_no_lag("ingest", MINIO_LIVE, MINIO_SAFE)
    return await bench.records(before)


def digests_in(records: Sequence[Any]) -> dict[str, dict[str, str]]:
    """Return digests by object name, as `objects.hashed.v1` has them."""
    facts = (json.loads(one.value) for one in records)
    return {fact["key"]: fact["digests"] for fact in facts}
