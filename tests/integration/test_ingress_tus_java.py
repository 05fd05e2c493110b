"""Resumable uploads by tus-java-client, which sends a PATCH as a POST, in chunks and without Content-Length."""

import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from deploy.native.install import Installer
from services.ingress.core.tus import parse_metadata
from tests.support.ingress import client, serve

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not (shutil.which("javac") and shutil.which("mvn")),
        reason="tus-java-client needs a JDK and Maven: sudo apt-get install default-jdk-headless maven",
    ),
]

ARTIFACT = "io.tus.java.client:tus-java-client:0.5.1"
PROGRAM = Path(__file__).with_name("TusJavaUpload.java")
CHUNK = 5 << 20
BODY = random.Random(5).randbytes(12_000_000)
METADATA = {"filename": "Größe 日本.bin", "title": "Größe 日本"}


@pytest.fixture
def upload(system, tmp_path):
    serve(system)
    file = tmp_path / "body.bin"
    jars = Installer(Path(tempfile.gettempdir()), print).jar(ARTIFACT)
    program = Path(shutil.which("javac")).resolve().with_name("java")  # the path's own may have no compiler
    java = [program, "-Dfile.encoding=UTF-8", "--class-path", f"{jars}/*"]  # metadata are sent in that encoding

    def run(body, *, payload, broken_off=False):
        """Upload `body` in requests of `payload` bytes; return where the last client began, and the upload's URL."""
        file.write_bytes(body)
        env = system.stack.env
        target = [env["PENSTOCK_HTTP_URL"] + "/tus/", env["PENSTOCK_TOKEN"], system.prefix + "one", str(file)]
        done = subprocess.run(
            [*java, PROGRAM, *target, str(payload), str(broken_off)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        offset, url = done.stdout.split()
        return int(offset), url

    return run


def assert_stored(system, url, body):
    key = system.prefix + "one"
    assert system.s3.get_object(Bucket="inbox", Key=key)["Body"].read() == body
    with client(system) as http:
        assert http.head(f"/objects/inbox/{key}").headers["x-amz-meta-title"] == METADATA["title"]
        headers_read = http.head(url, headers={"tus-resumable": "1.0.0"}).headers
    assert int(headers_read["upload-offset"]) == len(body)
    assert parse_metadata(headers_read["upload-metadata"]) == {**METADATA, "key": key}


@pytest.mark.parametrize("size", [0, CHUNK, len(BODY)], ids=["empty", "one chunk", "several chunks"])
def test_java_upload_becomes_an_object(system, upload, size):
    _, url = upload(BODY[:size], payload=2 * CHUNK)
    assert_stored(system, url, BODY[:size])


def test_java_upload_broken_off_between_requests_resumes_at_its_offset(system, upload):
    offset, url = upload(BODY, payload=CHUNK, broken_off=True)
    assert offset == CHUNK
    assert_stored(system, url, BODY)


def test_java_upload_broken_off_within_a_request_resumes_after_the_stored_bytes(system, upload):
    offset, url = upload(BODY, payload=2 * CHUNK, broken_off=True)
    assert 0 <= offset <= CHUNK
    assert_stored(system, url, BODY)
