"""A hasher killed while digesting a large object: another takes over and publishes one result."""

import pytest

from tests.support.system import body_of
from tests.support.waiting import until

pytestmark = pytest.mark.faults

SIZE = 192 << 20
SLOW = "md5,sha1,sha256,sha512,sha3_256,sha3_384,sha3_512,blake2b,blake2s,blake3"


def test_large_object_of_a_killed_hasher_is_taken_over(system, oracle):
    for number in (1, 2):
        system.serve("hasher", number, hasher_lease_seconds=3)
    body = body_of("large", 1 << 20) * (SIZE >> 20)
    system.put("large", body, Metadata={"penstock-digests": SLOW})
    holder = until(lambda: _holder(system), 60, lambda: _work(system))
    system.stack.kill(holder)
    oracle.over()
    oracle.judge()
    item = _work(system)
    assert (item["state"], item["attempt"]) == ("succeeded", 2), item
    assert len(system.facts("objects.hashed.v1", "large")) == 1
    system.stop("hasher-2")


def _work(system):
    rows = system.database.rows("SELECT * FROM api.work WHERE starts_with(key, $1)", f"inbox/{system.prefix}")
    return rows[0] if rows else None


def _holder(system):
    """Return the process that has read part of the object."""
    item = _work(system)
    if item is None or item["progress"] is None or item["state"] != "running":
        return None
    process = item["worker"].split(":")[1]
    return next(name for name in ("hasher", "hasher-2") if str(system.stack.pid(name)) == process)
