"""The clients and tests of the systems before, step by step as they were: what they compare whole is compared whole.

They know an address and nothing else, so the token comes as the password in it.
"""

import hashlib
import time

import httpx
import pytest

from tests.support import ingress

pytestmark = pytest.mark.integration

DELAY_SECONDS = 4
TIMEOUT_SECONDS = 60


def address(system):
    url = httpx.URL(system.stack.env["PENSTOCK_HTTP_URL"])
    return str(url.copy_with(username="old", password=system.stack.env["PENSTOCK_TOKEN"])).rstrip("/")


class TestDigestApi:
    """The tests of the digest API, with its delay on."""

    @pytest.fixture
    def host(self, system):
        ingress.serve(system)
        system.serve("hasher", hasher_delay=DELAY_SECONDS)
        yield address(system)
        system.serve("hasher")

    @pytest.mark.parametrize("body", [b"", b"a little", bytes(range(256)) * 40_000], ids=["empty", "small", "large"])
    def test_a_file_is_hashed_while_its_status_is_pending(self, host, body):
        sent = httpx.post(f"{host}/uploadfile/", files={"file": ("a file.png", body, "image/png")}, timeout=30)
        assert sent.status_code == 200
        made = sent.json()
        assert (made["success"], made["celery_status"]) == (True, "PENDING")
        assert made["id"] is not None
        assert made["celery_id"] is not None
        began, seen = time.monotonic(), []
        for spelling in ("/get_hash/gethash/", "/gethash/"):
            while (reply := httpx.get(f"{host}{spelling}", params={"file_id": made["id"]}).json())[
                "status"
            ] == "PENDING":
                assert reply["hash"] is None
                seen.append(reply["status"])
                assert time.monotonic() - began < TIMEOUT_SECONDS
                time.sleep(0.1)  # as its test does
            digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
            assert (reply["status"], reply["hash"]) == ("SUCCESS", digest)
        assert seen

    def test_malformed_ids_are_invalid(self, host):
        for number in ("-1", "0", "100000000", "abc"):
            answer = httpx.get(f"{host}/get_hash/gethash/", params={"file_id": number})
            assert (answer.status_code, answer.json()) == (200, {"status": "INVALID_ID", "hash": None})
            invalid = httpx.request("GET", f"{host}/get_hash/gethash/", json={"file_id": number})
            assert invalid.json() == {"status": "INVALID_ID", "hash": None}

    def test_failed_upload_has_nulls(self, host):
        answer = httpx.post(f"{host}/uploadfile/", files={"wrong": ("a", b"x")}).json()
        assert {name: answer[name] for name in ("success", "id", "celery_status", "celery_id")} == {
            "success": False,
            "id": None,
            "celery_status": None,
            "celery_id": None,
        }

    def test_its_pages_are_there(self, host):
        for page in ("/", "/uploadform", "/uploadform/", "/gethash-form/"):
            assert httpx.get(f"{host}{page}").headers["content-type"].startswith("text/html")
        shown = httpx.post(f"{host}/uploadfile-html/", files={"file": ("a.txt", b"x")})
        assert (shown.status_code, "text/html" in shown.headers["content-type"]) == (200, True)


class TestFileServer:
    """The test client of the chunked file server."""

    @pytest.fixture
    def host(self, system):
        ingress.serve(system)
        return address(system)

    @pytest.mark.parametrize("body", [b"", b"line\n" * 1000, bytes(3 << 20)], ids=["empty", "lines", "no line"])
    def test_a_file_is_submitted_and_read(self, system, host, body):
        name = f"{system.prefix.rstrip('/')} file.txt"
        answer = httpx.post(f"{host}/files/", files={"file": (name, body)}, timeout=30)
        assert (answer.status_code, answer.json()) == (202, {"message": f"{name} upload task submitted."})
        got = httpx.get(f"{host}/files/{name}")
        assert (got.status_code, got.content) == (200, body)
        assert got.headers["content-disposition"].startswith("attachment")

    def test_it_lives_and_counts(self, host):
        assert httpx.get(f"{host}/health").json() == {"status": "alive"}
        metrics = httpx.get(f"{host}/metrics")
        assert (metrics.status_code, "disk_used" in metrics.text) == (200, True)
        assert httpx.get(f"{host}/files/there-is-none").status_code == 404


class TestSetsOfFiles:
    """The requests of the system that sends files on to Colab."""

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    @pytest.mark.parametrize("path", ["/files/upload_minio", "/files/upload_minio/"])
    def test_files_replace_objects_under_the_prefix(self, system, method, path):
        ingress.serve(system)
        prefix = f"/{system.prefix}main/"
        for names in (("one.py", "two.py"), ("two.py",)):
            files = [("files", (name, name.encode())) for name in names]
            sent = httpx.request(
                method, address(system) + path, headers={"bucket": "inbox"}, data={"keys_prefix": prefix}, files=files
            )
            assert (sent.status_code, sent.content) == (204, b"")
        found = system.s3.list_objects_v2(Bucket="inbox", Prefix=prefix.lstrip("/"))["Contents"]
        assert [one["Key"] for one in found] == [f"{prefix.lstrip('/')}two.py"]
