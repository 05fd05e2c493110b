"""Digest changed objects."""

from collections.abc import Sequence

from services.hasher.hashing import Hashing
from shared.bus import Received, Router
from shared.events import ObjectChanged, ObjectHashed

router = Router("hasher")


@router.on(ObjectChanged, publishes=[ObjectHashed])
async def hash_objects(batch: Sequence[Received[ObjectChanged]], hashing: Hashing) -> list[ObjectHashed]:
    """Digest every stored version once; read no removed or already digested version."""
    return await hashing.hash_batch(batch)
