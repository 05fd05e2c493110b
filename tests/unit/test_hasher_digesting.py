"""Many digests in one read: equal to hashlib for any chunking, with bounded queues."""

import asyncio
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.hasher.adapters import digesting
from services.hasher.adapters.digesting import QUEUE_CHUNKS, digest_bytes, digest_small, digest_stream
from services.hasher.core.algorithms import ALGORITHMS

chunkings = st.lists(st.binary(max_size=200), max_size=12)
algorithm_lists = st.lists(st.sampled_from(sorted(ALGORITHMS)), min_size=1, max_size=4, unique=True)


async def stream(chunks):
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


@settings(max_examples=40, deadline=None)
@given(chunkings, algorithm_lists)
def test_stream_digests_do_not_depend_on_chunking(chunks, names):
    whole = b"".join(chunks)
    digests, size = asyncio.run(digest_stream(stream(chunks), names))
    assert (digests, size) == (digest_bytes(whole, names), len(whole))
    for name in set(names) & hashlib.algorithms_guaranteed:
        assert digests[name] == hashlib.new(name, whole).hexdigest()


@pytest.mark.parametrize("size", [0, 1, digesting.INLINE_BYTES, digesting.INLINE_BYTES + 1])
async def test_small_digests_are_equal_inline_and_in_a_thread(size):
    data = b"x" * size
    assert await digest_small(data, ["md5", "blake3"]) == digest_bytes(data, ["md5", "blake3"])


async def test_on_bytes_is_called_with_the_bytes_read_so_far():
    reported = []
    await digest_stream(stream([b"ab", b"c", b""]), ["md5"], on_bytes=reported.append)
    assert reported == [2, 3, 3]


async def test_reading_stops_when_the_slowest_digest_queue_is_full(monkeypatch):
    go, read = asyncio.Event(), []

    async def blocked(_digest, queue):
        await go.wait()
        while await queue.get() is not None:
            pass

    monkeypatch.setattr(digesting, "_consume", blocked)

    async def counted_chunks():
        for nth in range(100):
            read.append(nth)
            yield b"x"

    running = asyncio.create_task(digest_stream(counted_chunks(), ["md5", "sha256"]))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(read) <= QUEUE_CHUNKS + 1
    go.set()
    await running
    assert len(read) == 100


@pytest.mark.parametrize("at", [0, 1, 20])
async def test_failed_read_raises_its_own_error_and_leaves_no_task(at):
    async def broken_stream():
        for nth in range(30):
            if nth == at:
                raise ConnectionResetError
            yield b"x"

    with pytest.raises(ConnectionResetError):
        await digest_stream(broken_stream(), ["md5", "sha256"])
    assert len(asyncio.all_tasks()) == 1


async def test_failed_digest_stops_the_read_with_its_error(monkeypatch):
    class Broken:
        def update(self, _data):
            raise ValueError("odd")

        def hexdigest(self):
            return ""

    monkeypatch.setitem(digesting.ALGORITHMS, "broken", Broken)
    with pytest.raises(ValueError, match="odd"):
        await digest_stream(stream([b"x"] * 100), ["md5", "broken"])


async def test_exception_from_on_bytes_stops_the_read():
    read = []

    async def counted_chunks():
        for nth in range(100):
            read.append(nth)
            yield b"x"

    def stop(_done):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await digest_stream(counted_chunks(), ["md5"], on_bytes=stop)
    assert len(read) == 1
