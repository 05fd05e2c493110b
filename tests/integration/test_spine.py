"""The whole way on real servers: an object that any S3 client drops gets its digests, in the view and on the topic."""

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio import Minio

from deploy.native.install import Installer
from shared.settings import Settings
from shared.storage.admin_client import open_client
from shared.topics import OBJECTS_HASHED
from tests.support.system import digests_of

pytestmark = pytest.mark.integration

BODY = b"the same bytes, whoever brings them"
NAME = "a b+c/ü.txt"


def by_boto3(system, key):
    system.s3.upload_fileobj(io.BytesIO(BODY), "inbox", key)


def by_minio(system, key):
    env = system.stack.env
    client = Minio(
        urlsplit(env["PENSTOCK_S3_ENDPOINT"]).netloc,
        access_key=env["PENSTOCK_S3_ACCESS_KEY"],
        secret_key=env["PENSTOCK_S3_SECRET_KEY"],
        secure=False,
    )
    client.put_object("inbox", key, io.BytesIO(BODY), len(BODY))


def by_aiobotocore(system, key):
    env = system.stack.env

    async def put():
        settings = Settings(
            s3_endpoint=env["PENSTOCK_S3_ENDPOINT"],
            s3_access_key=env["PENSTOCK_S3_ACCESS_KEY"],
            s3_secret_key=env["PENSTOCK_S3_SECRET_KEY"],
        )
        async with open_client(settings) as client:
            await client.put_object(Bucket="inbox", Key=key, Body=BODY)

    asyncio.run(put())


def by_aws(system, key):
    program = (sys.executable, "-m", "awscli", "--endpoint-url", system.stack.env["PENSTOCK_S3_ENDPOINT"])
    run(system, *program, "s3", "cp", "-", f"s3://inbox/{key}", PYTHONPATH=str(tools().wheel("awscli==1.45.11")))


def by_rclone(system, key):
    program = shutil.which("rclone") or str(tools().go_program("github.com/rclone/rclone", "v1.71.2"))
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Minio",
        "ENV_AUTH": "true",
        "ENDPOINT": system.stack.env["PENSTOCK_S3_ENDPOINT"],
    }
    config = {f"RCLONE_CONFIG_PENSTOCK_{name}": value for name, value in remote.items()}
    # its newer versions would need a stream that they can read twice, or TLS
    config["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"
    run(system, program, "rcat", f"penstock:inbox/{key}", RCLONE_CONFIG="/dev/null", **config)


def by_mc(system, key):
    # not what the path calls so: that may be Midnight Commander
    program = tools().go_program("github.com/minio/mc", "v0.0.0-20250313080218-cf909e1063a9")
    env, address = system.stack.env, urlsplit(system.stack.env["PENSTOCK_S3_ENDPOINT"])
    user = f"{env['PENSTOCK_S3_ACCESS_KEY']}:{env['PENSTOCK_S3_SECRET_KEY']}"
    host = address._replace(netloc=f"{user}@{address.netloc}").geturl()
    folder = str(system.stack.state_dir / "mc")
    run(system, str(program), "--config-dir", folder, "pipe", f"penstock/inbox/{key}", MC_HOST_penstock=host)


def tools():
    return Installer(Path(tempfile.gettempdir()), print)


def run(system, *command, **env):
    """Give a client the operator's keys and the body on its standard input."""
    keys = {
        "AWS_ACCESS_KEY_ID": system.stack.env["PENSTOCK_S3_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": system.stack.env["PENSTOCK_S3_SECRET_KEY"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "PATH": os.environ["PATH"],
    }
    subprocess.run(command, input=BODY, env=keys | env, check=True, timeout=120, capture_output=True)


@pytest.mark.timeout(900)  # the first time, clients are built from their sources
@pytest.mark.parametrize("put", [by_boto3, by_minio, by_aiobotocore, by_aws, by_rclone, by_mc])
def test_a_dropped_object_is_hashed(system, put):
    name = f"{put.__name__}/{NAME}"
    put(system, system.prefix + name)
    row = system.hashed(name)
    assert json.loads(row["digests"]) == digests_of(BODY)
    assert row["size"] == len(BODY)
    (fact,) = system.facts(OBJECTS_HASHED.name, name)
    assert fact.body["digests"] == digests_of(BODY)
    assert fact.body["etag"] == row["etag"]
