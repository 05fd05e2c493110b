"""Real facts to measure with: told once by the real services, then laid out again byte for byte for every run."""

import json
from collections.abc import Sequence
from typing import Any

import bodies
from arena import Arena

from shared.topics import MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED


async def notices_of(arena: Arena, names: Sequence[str]) -> list[Any]:
    """Store objects while nobody listens; return the records that the object store wrote on both lanes."""
    before = await arena.ends(MINIO_LIVE, MINIO_SAFE)
    await arena.put_all(names)
    await arena.grown(before, 2 * len(names))
    return await arena.records(before)


async def facts_of(arena: Arena, names: Sequence[str], size: int = bodies.SMALL) -> list[Any]:
    """Store objects and let ingest tell them; return the records it wrote."""
    before, safe = await arena.ends(OBJECTS_CHANGED), await arena.ends(MINIO_SAFE)
    with arena.running("ingest", PENSTOCK_SWEEP_AT_START="false"):
        await arena.put_all(names, size)
        await arena.grown(before, len(names))
        await arena.grown(safe, len(names))
        await arena.caught_up("ingest", MINIO_LIVE, MINIO_SAFE)
    return await arena.records(before)


def digests_in(records: Sequence[Any]) -> dict[str, dict[str, str]]:
    """Return digests by object name, as `objects.hashed.v1` says them."""
    told = (json.loads(one.value) for one in records)
    return {fact["key"]: fact["digests"] for fact in told}
