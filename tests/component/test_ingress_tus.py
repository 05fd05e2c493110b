"""Resumable uploads over HTTP, on a store in memory."""

import asyncio
import base64
import hashlib
import random

import pytest

from services.ingress.adapters.tus import TusUploads
from services.ingress.adapters.tus_parts import AFTER_PARTS_KEY
from services.ingress.core.access import Principal
from shared.errors import Outage
from shared.storage import ObjectRef
from shared.storage.multipart import MIN_PART_BYTES
from tests.fakes.ingress import Ingress, settings

SPOKEN = {"tus-resumable": "1.0.0"}
BYTES = {**SPOKEN, "content-type": "application/offset+octet-stream"}
BIG = random.Random(1).randbytes(2 * MIN_PART_BYTES + 7)


def metadata(**pairs):
    return ",".join(f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in pairs.items())


async def begin(client, length, **pairs):
    headers = {**SPOKEN, "upload-length": str(length), "upload-metadata": metadata(**pairs)}
    answer = await client.post("/tus/", headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


async def send(client, location, offset, body, **more):
    return await client.patch(location, content=body, headers={**BYTES, "upload-offset": str(offset), **more})


async def offset_of(client, location):
    answer = await client.head(location, headers=SPOKEN)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def id_of(location):
    return location.removeprefix("/tus/")


async def keys(ingress, bucket):
    return [one.ref.key async for page in ingress.store.list(bucket) for one in page]


async def assert_nothing_is_left(ingress):
    assert await keys(ingress, "uploads") == []
    assert not ingress.store.uploads.is_open


async def broken(body):
    """A body whose connection breaks after these bytes."""
    for at in range(0, len(body), 1 << 20):
        yield body[at : at + (1 << 20)]


@pytest.mark.parametrize(
    "size", [0, 1, MIN_PART_BYTES - 1, MIN_PART_BYTES, MIN_PART_BYTES + 1, 2 * MIN_PART_BYTES, 2 * MIN_PART_BYTES + 7]
)
@pytest.mark.parametrize("step", [1 << 20, MIN_PART_BYTES, 4 * MIN_PART_BYTES])
async def test_upload_in_any_chunks_becomes_one_object(ingress, size, step):
    body = BIG[:size]
    async with ingress.client() as client:
        location = await begin(client, size, key="a b/c", filetype="text/plain", origin="here")
        for at in range(0, size, step):
            answer = await send(client, location, at, body[at : at + step])
            assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(min(at + step, size)))
            assert answer.headers["tus-resumable"] == "1.0.0"
        assert await offset_of(client, location) == size
    info, stored = await ingress.store.read(ObjectRef("inbox", "a b/c"))
    assert stored == body
    assert (info.content_type, info.metadata) == ("text/plain", {"origin": "here", "tus-upload": id_of(location)})
    await assert_nothing_is_left(ingress)


async def test_options_lists_versions_and_extensions(ingress):
    async with ingress.client() as client:
        answer = await client.options("/tus/")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["tus-extension"] == "creation,creation-with-upload,termination,checksum,expiration"
    assert answer.headers["tus-max-size"] == str(ingress.settings.max_upload_bytes)
    assert answer.headers["tus-checksum-algorithm"] == "sha1,md5,sha256"


async def test_upload_may_begin_with_its_first_bytes(ingress):
    async with ingress.client() as client:
        headers = {**BYTES, "upload-length": "5", "upload-metadata": metadata(key="a")}
        answer = await client.post("/tus/", content=b"hel", headers=headers)
        assert (answer.status_code, answer.headers["upload-offset"]) == (201, "3")
        assert (await send(client, answer.headers["location"], 3, b"lo")).status_code == 204
    assert (await ingress.store.read(ObjectRef("inbox", "a")))[1] == b"hello"


async def test_head_returns_the_upload_metadata(ingress):
    async with ingress.client() as client:
        location = await begin(client, 5, filename="ü")
        answer = await client.head(location, headers=SPOKEN)
    assert answer.headers["upload-length"] == "5"
    assert answer.headers["upload-metadata"] == metadata(filename="ü")
    assert answer.headers["upload-expires"].endswith("GMT")


@pytest.mark.parametrize("sent", [3, MIN_PART_BYTES - 1, MIN_PART_BYTES + 3])
async def test_bytes_before_a_disconnect_are_stored(ingress, sent):
    async with ingress.client() as client:
        location = await begin(client, len(BIG), key="a")
        answer = await send(client, location, 0, broken(BIG[:sent]), **{"content-length": str(len(BIG))})
        assert (answer.status_code, answer.json()["code"]) == (400, "BROKEN_BODY")
        assert await offset_of(client, location) == sent
        assert (await send(client, location, sent, BIG[sent:])).status_code == 204
    assert (await ingress.store.read(ObjectRef("inbox", "a")))[1] == BIG
    await assert_nothing_is_left(ingress)


@pytest.mark.parametrize("done", ["nothing", "a part", "two parts and a tail"])
@pytest.mark.parametrize("dies", ["begin_upload", "send", "put", "complete", "put_with_headers", "delete"])
async def test_offset_is_correct_after_any_crash(ingress, done, dies, monkeypatch):
    sent = {"nothing": 0, "a part": MIN_PART_BYTES, "two parts and a tail": 2 * MIN_PART_BYTES + 3}[done]
    async with ingress.client() as client:
        location = await begin(client, len(BIG), key="a")
        if sent:
            await send(client, location, 0, BIG[:sent])
        with monkeypatch.context() as patch:
            holder = ingress.store.uploads if dies in {"send", "complete"} else ingress.store
            patch.setattr(holder, dies, dead)
            answer = await send(client, location, sent, BIG[sent:-1])
            if answer.status_code == 204:
                answer = await send(client, location, len(BIG) - 1, BIG[-1:])
    ingress.__post_init__()  # another process, which remembers nothing
    async with ingress.client() as client:
        offset = await offset_of(client, location) if await keys(ingress, "uploads") else len(BIG)
        assert offset >= sent
        if offset < len(BIG):
            assert (await send(client, location, offset, BIG[offset:])).status_code == 204
    assert (await ingress.store.read(ObjectRef("inbox", "a")))[1] == BIG
    await assert_nothing_is_left(ingress)


def dead(*_args, **_options):
    raise Outage("the process is gone")


async def test_tail_included_in_a_part_is_ignored(ingress):
    async with ingress.client() as client:
        location = await begin(client, len(BIG), key="a")
        await send(client, location, 0, BIG[: MIN_PART_BYTES + 3])
        await ingress.store.put(
            ObjectRef("uploads", f"tus/{id_of(location)}/tail"), b"stale", metadata={AFTER_PARTS_KEY: "0"}
        )
        assert await offset_of(client, location) == MIN_PART_BYTES


async def test_lost_completion_answer_is_recovered(ingress):
    async with ingress.client() as client:
        location = await begin(client, len(BIG), key="a")
        await send(client, location, 0, BIG[:MIN_PART_BYTES])
        noted = await ingress.store.read(ObjectRef("uploads", f"tus/{id_of(location)}/info.json"))
        await send(client, location, MIN_PART_BYTES, BIG[MIN_PART_BYTES:])
    await ingress.store.put(noted[0].ref, noted[1])  # as if it was killed before it removed this
    ingress.__post_init__()
    async with ingress.client() as client:
        assert await offset_of(client, location) == len(BIG)
    await assert_nothing_is_left(ingress)


async def test_upload_whose_parts_were_removed_is_expired(ingress):
    await ingress.store.put(ObjectRef("inbox", "a"), b"of somebody else")
    async with ingress.client() as client:
        location = await begin(client, len(BIG), key="a")
        await send(client, location, 0, BIG[: MIN_PART_BYTES + 3])
        ingress.store.uploads._open.clear()
        answer = await client.head(location, headers=SPOKEN)
        assert answer.status_code == 410
    await assert_nothing_is_left(ingress)


def checksum(algorithm, body):
    return {"upload-checksum": f"{algorithm} {base64.b64encode(hashlib.new(algorithm, body).digest()).decode()}"}


@pytest.mark.parametrize("algorithm", ["sha1", "md5", "sha256"])
async def test_chunk_with_wrong_checksum_is_discarded(ingress, algorithm):
    async with ingress.client() as client:
        location = await begin(client, 10, key="a")
        assert (await send(client, location, 0, b"hello", **checksum(algorithm, b"hello"))).status_code == 204
        answer = await send(client, location, 5, b"wrong", **checksum(algorithm, b"right"))
        assert (answer.status_code, answer.json()["code"]) == (460, "CHECKSUM_MISMATCH")
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert await offset_of(client, location) == 5
        assert (await send(client, location, 5, b"right", **checksum(algorithm, b"right"))).status_code == 204
    assert (await ingress.store.read(ObjectRef("inbox", "a")))[1] == b"helloright"


async def test_bytes_with_a_checksum_that_broke_off_are_discarded(ingress):
    async with ingress.client() as client:
        location = await begin(client, 10, key="a")
        more = {"content-length": "10", **checksum("sha1", b"helloright")}
        assert (await send(client, location, 0, broken(b"hello"), **more)).status_code == 400
        assert await offset_of(client, location) == 0


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"upload-offset": "1"}, 409, "OFFSET_DIFFERS"),
        ({"upload-offset": "x"}, 400, "BAD_OFFSET"),
        ({"upload-offset": "0", "content-type": "text/plain"}, 415, "WRONG_TYPE"),
        ({"upload-offset": "0", "tus-resumable": "0.2.2"}, 412, "TUS_VERSION"),
        ({"upload-offset": "0", "upload-checksum": "crc8 AA=="}, 400, "BAD_CHECKSUM"),
    ],
)
async def test_oversized_chunk_is_refused_and_not_stored(ingress, headers, status, code):
    async with ingress.client() as client:
        location = await begin(client, 5, key="a")
        answer = await client.patch(location, content=b"hello", headers={**BYTES, **headers})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert await offset_of(client, location) == 0


async def test_more_than_was_announced_is_refused(ingress):
    async with ingress.client() as client:
        location = await begin(client, 5, key="a")
        assert (await send(client, location, 0, b"hello!")).status_code == 413
        assert await offset_of(client, location) == 0


async def test_checksum_over_too_much_is_refused_before_it_is_read(ingress):
    async with ingress.client() as client:
        location = await begin(client, 17 << 20, key="a")
        answer = await send(client, location, 0, bytes(17 << 20), **checksum("md5", b""))
        assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 400, "BAD_LENGTH"),
        ({"upload-defer-length": "1"}, 400, "HEADER_REFUSED"),
        ({"upload-length": "-1"}, 400, "BAD_LENGTH"),
        ({"upload-length": "101"}, 413, "TOO_LARGE"),
        ({"upload-length": "5", "upload-metadata": "a !"}, 400, "BAD_METADATA"),
        ({"upload-length": "5", "upload-metadata": metadata(bucket="results")}, 404, "NO_SUCH_BUCKET"),
        ({"upload-length": "5", "upload-metadata": metadata(key="../a")}, 422, "KEY_UNSAFE"),
        ({"upload-length": "5", "tus-resumable": ""}, 412, "TUS_VERSION"),
    ],
)
async def test_upload_that_cannot_be_is_refused_and_nothing_begun(headers, status, code):
    ingress = Ingress(settings(max_upload_bytes=100))
    async with ingress.client() as client:
        answer = await client.post("/tus/", headers={**SPOKEN, **headers})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    await assert_nothing_is_left(ingress)


def dead_line(*pieces):
    """Return a body that sends these pieces and nothing more, for ever, and what is set once they were taken."""
    taken = asyncio.Event()

    async def sending():
        for piece in pieces:
            yield piece
        taken.set()
        await asyncio.Event().wait()

    return sending(), taken


@pytest.mark.parametrize("length", [{"content-length": "5"}, {}])
async def test_newer_request_preempts_the_older_one_and_resumes(ingress, length):
    async with ingress.client() as client:
        location = await begin(client, 5, key="a")
        body, taken = dead_line(b"h", b"e")
        first = asyncio.create_task(send(client, location, 0, body, **length))
        await taken.wait()
        async with asyncio.timeout(2):
            offset = await offset_of(client, location)
            ended = await first
        assert offset in {1, 2}
        assert (ended.status_code, ended.json()["code"]) == (400, "UPLOAD_TAKEN_OVER")
        assert (await send(client, location, offset, b"hello"[offset:])).status_code == 204
    assert (await ingress.store.read(ObjectRef("inbox", "a")))[1] == b"hello"
    await assert_nothing_is_left(ingress)


async def test_upload_on_a_dead_line_can_be_given_up(ingress):
    async with ingress.client() as client:
        location = await begin(client, 5, key="a")
        body, taken = dead_line(b"he")
        first = asyncio.create_task(send(client, location, 0, body, **{"content-length": "5"}))
        await taken.wait()
        async with asyncio.timeout(2):
            assert (await client.delete(location, headers=SPOKEN)).status_code == 204
            assert (await first).status_code == 400
    await assert_nothing_is_left(ingress)


async def test_older_process_does_not_overwrite_the_newer_tail(ingress):
    async with ingress.client() as client:
        location = await begin(client, 10, key="a")
        body, taken = dead_line(b"he")
        first = asyncio.create_task(send(client, location, 0, body, **{"content-length": "10"}))
        await taken.wait()
        older = ingress.dependencies.tus
        ingress.dependencies.tus = TusUploads(ingress.store, ingress.settings)  # another process on the same store
        assert (await send(client, location, 0, b"hello")).headers["upload-offset"] == "5"
        ingress.dependencies.tus, newer = older, ingress.dependencies.tus
        assert (await client.head(location, headers=SPOKEN)).status_code == 200
        ended = await first
        assert (ended.status_code, ended.json()["code"]) == (409, "OFFSET_DIFFERS")
        ingress.dependencies.tus = newer
        assert await offset_of(client, location) == 5
        assert (await send(client, location, 5, b"world")).status_code == 204
    assert (await ingress.store.read(ObjectRef("inbox", "a")))[1] == b"helloworld"


async def pieces_of(body, step=1 << 20):
    for at in range(0, len(body), step):
        yield body[at : at + step]


@pytest.mark.parametrize("size", [0, 3, MIN_PART_BYTES, 2 * MIN_PART_BYTES + 7])
async def test_piece_of_unknown_length_is_taken_and_counted(ingress, size):
    async with ingress.client() as client:
        location = await begin(client, len(BIG), key="a")
        answer = await send(client, location, 0, pieces_of(BIG[:size]))
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(size))
        if size < len(BIG):
            assert (await send(client, location, size, pieces_of(BIG[size:]))).status_code == 204
    assert (await ingress.store.read(ObjectRef("inbox", "a")))[1] == BIG
    await assert_nothing_is_left(ingress)


@pytest.mark.parametrize("size", [0, 5])
@pytest.mark.parametrize(("extra", "status"), [(b"", 204), (b"x", 413)])
async def test_a_piece_of_unknown_length_is_read_when_the_upload_is_whole(ingress, size, extra, status):
    is_read = False

    async def body():
        nonlocal is_read
        is_read = True  # a server sends 100 (Continue) when it begins to read
        yield extra

    async with ingress.client() as client:
        location = await begin(client, size, key="a")
        if size:
            assert (await send(client, location, 0, b"x" * size)).status_code == 204
        assert (await send(client, location, size, body())).status_code == status
    assert is_read
    assert (await ingress.store.read(ObjectRef("inbox", "a")))[1] == b"x" * size


@pytest.mark.parametrize("step", [1, 5, 6])
async def test_oversized_chunk_of_unknown_length_is_refused(ingress, step):
    async with ingress.client() as client:
        location = await begin(client, 5, key="a")
        answer = await send(client, location, 0, pieces_of(b"hello!", step))
        assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
        assert await offset_of(client, location) < 5
    assert await keys(ingress, "inbox") == []


@pytest.mark.parametrize(
    ("headers", "fix"),
    [
        ({"upload-concat": "partial"}, "pieces are not joined"),
        ({"upload-concat": "final;/tus/a /tus/b"}, "pieces are not joined"),
        ({"upload-defer-length": "1"}, "length must be known"),
        ({"upload-complete": "?0"}, "tus 1.0"),
        ({"upload-draft-interop-version": "6"}, "tus 1.0"),
        ({"content-range": "bytes 0-4/10"}, "stored whole"),
        ({"x-amz-meta-a": "b"}, "leave it out"),
    ],
)
async def test_extension_that_is_not_spoken_is_refused_at_creation(ingress, headers, fix):
    async with ingress.client() as client:
        creation = {**BYTES, "upload-length": "5", "upload-metadata": metadata(key="a"), **headers}
        answer = await client.post("/tus/", content=b"hello", headers=creation)
    assert (answer.status_code, answer.json()["code"]) == (400, "HEADER_REFUSED")
    assert fix in answer.json()["detail"]
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert await keys(ingress, "inbox") == await keys(ingress, "uploads") == []


@pytest.mark.parametrize("size", [0, 5, len(BIG)])
@pytest.mark.parametrize(
    ("condition", "there", "status"),
    [
        ({"if-none-match": "*"}, None, 201),
        ({"if-none-match": "*"}, b"old", 412),
        ({"if-match": '"149603e6c03516362a8da23f624db945"'}, b"old", 201),
        ({"if-match": '"nope"'}, b"old", 412),
        ({"if-match": "*"}, None, 412),
    ],
)
async def test_condition_is_judged_when_an_upload_begins(ingress, size, condition, there, status):
    if there is not None:
        await ingress.store.put(ObjectRef("inbox", "a"), there)
    async with ingress.client() as client:
        creation = {**SPOKEN, "upload-length": str(size), "upload-metadata": metadata(key="a"), **condition}
        answer = await client.post("/tus/", headers=creation)
    assert answer.status_code == status, answer.text
    assert (await keys(ingress, "uploads") == []) is (status != 201 or size == 0)


@pytest.mark.parametrize("size", [5, len(BIG)])
async def test_condition_holds_until_an_upload_is_an_object(ingress, size):
    async with ingress.client() as client:
        creation = {**SPOKEN, "upload-length": str(size), "upload-metadata": metadata(key="a"), "if-none-match": "*"}
        location = (await client.post("/tus/", headers=creation)).headers["location"]
        await ingress.store.put(ObjectRef("inbox", "a"), b"of somebody else")
        answer = await send(client, location, 0, BIG[:size])
        assert (answer.status_code, answer.json()["code"]) == (412, "SUPERSEDED")
    assert (await ingress.store.read(ObjectRef("inbox", "a")))[1] == b"of somebody else"


@pytest.mark.parametrize(
    ("text", "stored_title"), [("Größe", "Größe"), ("日本", "日本"), ("=?UTF-8?Q?Gr=C3=B6=C3=9Fe?=", "Größe"), ("", "")]
)
async def test_non_ascii_metadata_is_stored(ingress, text, stored_title):
    async with ingress.client() as client:
        await begin(client, 0, key="a", title=text)
        answer = await client.get("/objects/inbox/a")
    assert (await ingress.store.head(ObjectRef("inbox", "a"))).metadata["title"] == stored_title
    assert dict(answer.headers.raw)[b"x-amz-meta-title"].decode() == stored_title


@pytest.mark.parametrize("sent", [0, 3, MIN_PART_BYTES + 3])
@pytest.mark.parametrize("override", [False, True])
async def test_upload_that_is_given_up_leaves_nothing(ingress, sent, override):
    async with ingress.client() as client:
        location = await begin(client, len(BIG), key="a")
        await send(client, location, 0, BIG[:sent])
        if override:
            answer = await client.post(location, headers={**SPOKEN, "x-http-method-override": "DELETE"})
        else:
            answer = await client.delete(location, headers=SPOKEN)
        assert answer.status_code == 204
        assert (await client.head(location, headers=SPOKEN)).status_code == 404
    assert await keys(ingress, "inbox") == []
    await assert_nothing_is_left(ingress)


async def test_another_ones_upload_does_not_exist(ingress):
    async with ingress.client() as client:
        location = await begin(client, 5, key="a")
    other = Principal("other", "other", frozenset({"write"}))
    for owner, upload_id in [(other.id, id_of(location)), ("root", "0" * 32), ("root", "..")]:
        with pytest.raises(Exception, match="no such upload"):
            await ingress.dependencies.tus.get_offset(upload_id, owner)


async def test_upload_past_its_time_is_gone_and_removed():
    ingress = Ingress(settings(tus_expire_days=1e-9))
    async with ingress.client() as client:
        location = await begin(client, len(BIG), key="a")
        answer = await client.head(location, headers=SPOKEN)
        assert answer.status_code == 410
        await ingress.dependencies.tus.remove_expired()
        await assert_nothing_is_left(ingress)
        answer = await send(client, location, 0, BIG)
        assert (answer.status_code, answer.json()["code"]) == (410, "UPLOAD_EXPIRED")


@pytest.mark.parametrize("days_now", [7, 1e-9])
async def test_upload_keeps_its_expiry(ingress, days_now):
    async with ingress.client() as client:
        location = await begin(client, 5, key="a")
        await TusUploads(ingress.store, settings(tus_expire_days=days_now)).remove_expired()
        assert await offset_of(client, location) == 0
