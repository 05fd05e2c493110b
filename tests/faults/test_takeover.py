"""A hasher killed while digesting a large object: another takes over and publishes one result."""

import pytest

from tests.support.waiting import until
from tests.support.world import body_of

pytestmark = pytest.mark.faults

SIZE = 192 << 20
SLOW = "md5,sha1,sha256,sha512,sha3_256,sha3_384,sha3_512,blake2b,blake2s,blake3"


def test_large_object_of_a_killed_hasher_is_taken_over(world, oracle):
    for number in (1, 2):
        world.serve("hasher", number, hasher_lease_seconds=3)
    body = body_of("large", 1 << 20) * (SIZE >> 20)
    world.put("large", body, Metadata={"penstock-digests": SLOW})
    holder = until(lambda: _holder(world), 60, lambda: _work(world))
    world.stack.kill(holder)
    oracle.over()
    oracle.judge()
    item = _work(world)
    assert (item["state"], item["attempt"]) == ("succeeded", 2), item
    assert len(world.facts("objects.hashed.v1", "large")) == 1
    world.stop("hasher-2")


def _work(world):
    rows = world.database.rows("SELECT * FROM api.work WHERE starts_with(key, $1)", f"inbox/{world.prefix}")
    return rows[0] if rows else None


def _holder(world):
    """Return the process that has read part of the object."""
    item = _work(world)
    if item is None or item["progress"] is None or item["state"] != "running":
        return None
    process = item["worker"].split(":")[1]
    return next(name for name in ("hasher", "hasher-2") if str(world.stack.pid(name)) == process)
