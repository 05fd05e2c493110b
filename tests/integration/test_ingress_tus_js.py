"""Resumable uploads by tus-js-client, the client of most browsers: whole, from a stream, in parallel pieces."""

import json
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from deploy.native.install import Installer
from tests.support.ingress import serve

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("npm") is None, reason="tus-js-client needs Node.js and npm"),
]

PACKAGE = "tus-js-client@4.3.1"
BODY = random.Random(3).randbytes((6 << 20) + 7)
PROGRAM = """
const tus = require('tus-js-client'), fs = require('fs');
const [,, endpoint, token, key, file, options] = process.argv;
const wanted = JSON.parse(options);
const body = wanted.stream ? fs.createReadStream(file) : fs.readFileSync(file);
const upload = new tus.Upload(body, {
  endpoint, headers: {Authorization: 'Bearer ' + token}, metadata: {key, title: 'Größe 日本'}, retryDelays: null,
  ...wanted,
  onError: error => { console.log(JSON.stringify({error: String(error)})); process.exit(0); },
  onSuccess: () => { console.log(JSON.stringify({url: upload.url})); process.exit(0); },
});
upload.start();
"""


def package():
    """Return the folder with the client and what it needs, fetched once."""
    folder = Installer(Path(tempfile.gettempdir()), print).cache / PACKAGE.replace("@", "-")
    if not (folder / "node_modules").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGE]
        subprocess.run(command, check=True, timeout=300)
    return folder / "node_modules"


@pytest.fixture
def upload(system, tmp_path):
    serve(system)
    file = tmp_path / "body.bin"
    file.write_bytes(BODY)

    def run(name, **options):
        env, key = system.stack.env, system.prefix + name
        arguments = [env["PENSTOCK_HTTP_URL"] + "/tus/", env["PENSTOCK_TOKEN"], key, str(file), json.dumps(options)]
        done = subprocess.run(
            ["node", "-", *arguments],
            input=PROGRAM.encode(),
            env={"NODE_PATH": str(package()), "PATH": os.environ["PATH"]},
            capture_output=True,
            check=True,
            timeout=120,
        )
        return json.loads(done.stdout)

    return run


def keys(system, bucket, prefix):
    return [one["Key"] for one in system.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


@pytest.mark.parametrize(
    "options",
    [{}, {"chunkSize": 1 << 20}, {"stream": True, "chunkSize": 1 << 20, "uploadSize": len(BODY)}],
    ids=["whole", "pieces", "stream"],
)
def test_an_upload_becomes_an_object(system, upload, options):
    assert "url" in (outcome := upload("one", **options)), outcome
    found = system.s3.get_object(Bucket="inbox", Key=system.prefix + "one")
    assert found["Body"].read() == BODY


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"parallelUploads": 3}, "pieces are not joined"),
        ({"stream": True, "chunkSize": 1 << 20, "uploadLengthDeferred": True}, "length must be known"),
    ],
)
def test_what_is_not_spoken_is_refused_when_it_begins_and_no_piece_is_an_object(system, upload, options, reason):
    outcome = upload("pieces", **options)
    assert reason in outcome.get("error", outcome)
    assert "400" in outcome["error"]
    assert keys(system, "inbox", system.prefix) == keys(system, "uploads", "tus/") == []
