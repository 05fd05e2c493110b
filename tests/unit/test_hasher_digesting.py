"""Many digests in one read: equal to hashlib however the bytes come, and never far ahead of the slowest."""

import asyncio
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.hasher.core import digesting
from services.hasher.core.algorithms import ALGORITHMS
from services.hasher.core.digesting import QUEUE_CHUNKS, digest_bytes, digest_small, digest_stream

chunkings = st.lists(st.binary(max_size=200), max_size=12)
wanted = st.lists(st.sampled_from(sorted(ALGORITHMS)), min_size=1, max_size=4, unique=True)


async def stream(chunks):
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


@settings(max_examples=40, deadline=None)
@given(chunkings, wanted)
def test_any_chunking_gives_the_digests_of_the_whole(chunks, names):
    whole = b"".join(chunks)
    digests, size = asyncio.run(digest_stream(stream(chunks), names))
    assert (digests, size) == (digest_bytes(whole, names), len(whole))
    for name in set(names) & hashlib.algorithms_guaranteed:
        assert digests[name] == hashlib.new(name, whole).hexdigest()


@pytest.mark.parametrize("size", [0, 1, digesting.INLINE_BYTES, digesting.INLINE_BYTES + 1])
async def test_small_objects_have_the_same_digests_on_and_off_the_loop(size):
    data = b"x" * size
    assert await digest_small(data, ["md5", "blake3"]) == digest_bytes(data, ["md5", "blake3"])


async def test_the_reader_hears_how_far_it_is():
    told = []
    await digest_stream(stream([b"ab", b"c", b""]), ["md5"], on_bytes=told.append)
    assert told == [2, 3, 3]


async def test_a_fast_digest_is_only_a_few_chunks_ahead_of_a_slow_one(monkeypatch):
    go, read = asyncio.Event(), []

    async def stuck(_digest, queue):
        await go.wait()
        while await queue.get() is not None:
            pass

    monkeypatch.setattr(digesting, "_drain", stuck)

    async def counted():
        for nth in range(100):
            read.append(nth)
            yield b"x"

    running = asyncio.create_task(digest_stream(counted(), ["md5", "sha256"]))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(read) <= QUEUE_CHUNKS + 1
    go.set()
    await running
    assert len(read) == 100


@pytest.mark.parametrize("at", [0, 1, 20])
async def test_a_read_that_breaks_off_raises_its_own_error_and_leaves_no_task(at):
    async def breaks():
        for nth in range(30):
            if nth == at:
                raise ConnectionResetError
            yield b"x"

    with pytest.raises(ConnectionResetError):
        await digest_stream(breaks(), ["md5", "sha256"])
    assert len(asyncio.all_tasks()) == 1


async def test_a_digest_that_fails_ends_the_read_with_its_error(monkeypatch):
    class Broken:
        def update(self, _data):
            raise ValueError("odd")

        def hexdigest(self):
            return ""

    monkeypatch.setitem(digesting.ALGORITHMS, "broken", Broken)
    with pytest.raises(ValueError, match="odd"):
        await digest_stream(stream([b"x"] * 100), ["md5", "broken"])


async def test_who_loses_the_lease_stops_reading():
    read = []

    async def counted():
        for nth in range(100):
            read.append(nth)
            yield b"x"

    def stop(_done):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await digest_stream(counted(), ["md5"], on_bytes=stop)
    assert len(read) == 1
