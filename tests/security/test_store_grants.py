"""What each service's own S3 user may do and may not: what a stolen key is worth."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException
from pydantic import SecretStr
from urllib3 import PoolManager

from services.catalogue import manifests
from services.cli.settings import CliSettings
from shared.provision import ensure_users
from shared.provision.users import user_name
from tests.support.stores import with_switches

pytestmark = pytest.mark.integration

CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60)
DENIED = {"AccessDenied", "403", "XMinioAdminAccessDenied"}


def client(stack, user: str, secret: str, kind: str = "s3", **more: str) -> Any:
    return boto3.client(
        kind,
        endpoint_url=stack.env["PENSTOCK_S3_ENDPOINT"],
        aws_access_key_id=user,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=CONFIG,
        **more,
    )


def secret_of(stack, service: str) -> str:
    return stack.env[f"PENSTOCK_S3_SECRET_KEY_{service.upper()}"]


def admin(stack, service: str) -> MinioAdmin:
    return MinioAdmin(
        endpoint=stack.env["PENSTOCK_S3_ENDPOINT"].removeprefix("http://"),
        credentials=StaticProvider(user_name(service), secret_of(stack, service)),
        secure=False,
        http_client=PoolManager(timeout=10, retries=False),
    )


class Bench:
    """Objects of a test's own in every bucket, and each action on them by name, as one user."""

    def __init__(self, stack) -> None:
        self.stack, self.key = stack, f"grants/{uuid.uuid4().hex}"
        env = stack.env
        self.root = client(stack, env["PENSTOCK_S3_ACCESS_KEY"], env["PENSTOCK_S3_SECRET_KEY"])
        self.buckets = ("inbox", "src-data", "processed-data", "results", "uploads")
        for bucket in self.buckets:
            self.root.put_object(Bucket=bucket, Key=self.key, Body=b"abc")

    def allowed(self, service: str) -> set[str]:
        """Try everything as a service; return what was let through, such as `put inbox`."""
        s3 = client(self.stack, user_name(service), secret_of(self.stack, service))
        return {
            f"{name} {bucket}"
            for bucket in self.buckets
            for name, act in ACTIONS.items()
            if lets(act, s3, bucket, self)
        }

    def close(self) -> None:
        for bucket in self.buckets:
            self.root.delete_object(Bucket=bucket, Key=self.key)


def lets(act: Any, s3: Any, bucket: str, bench: Bench) -> bool:
    try:
        act(s3, bucket, bench)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        assert code in DENIED, code
        return False
    return True


def put(s3: Any, bucket: str, bench: Bench) -> None:
    s3.put_object(Bucket=bucket, Key=bench.key, Body=b"abc")


def delete(s3: Any, bucket: str, bench: Bench) -> None:
    try:
        s3.delete_object(Bucket=bucket, Key=bench.key)
    finally:
        bench.root.put_object(Bucket=bucket, Key=bench.key, Body=b"abc")


def parts(s3: Any, bucket: str, bench: Bench) -> None:
    made = bench.root.create_multipart_upload(Bucket=bucket, Key=bench.key)
    try:
        s3.abort_multipart_upload(Bucket=bucket, Key=bench.key, UploadId=made["UploadId"])
    except ClientError:
        bench.root.abort_multipart_upload(Bucket=bucket, Key=bench.key, UploadId=made["UploadId"])
        raise


def rules(s3: Any, bucket: str, _bench: Bench) -> None:
    found = s3.get_bucket_notification_configuration(Bucket=bucket)
    found.pop("ResponseMetadata")
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=found)


def open_to_all(s3: Any, bucket: str, _bench: Bench) -> None:
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))


def expire(s3: Any, bucket: str, _bench: Bench) -> None:
    rule = {"ID": "all", "Status": "Enabled", "Filter": {"Prefix": "no-such/"}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})


ACTIONS = {
    "list": lambda s3, bucket, _: s3.list_objects_v2(Bucket=bucket, MaxKeys=1),
    "get": lambda s3, bucket, bench: s3.get_object(Bucket=bucket, Key=bench.key),
    "tag": lambda s3, bucket, bench: s3.put_object_tagging(Bucket=bucket, Key=bench.key, Tagging={"TagSet": []}),
    "put": put,
    "delete": delete,
    "abort": parts,
    "uploads": lambda s3, bucket, _: s3.list_multipart_uploads(Bucket=bucket),
    "rules": rules,
    "create": lambda s3, bucket, bench: s3.create_bucket(Bucket=f"{bucket}-{bench.key[-12:]}"),
    "remove": lambda s3, bucket, _: s3.delete_bucket(Bucket=bucket),
    "policy": lambda s3, bucket, _: s3.get_bucket_policy(Bucket=bucket),
    "open": open_to_all,
    "expire": expire,
    "version": lambda s3, bucket, _: s3.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
    ),
}
READS = {f"{act} {bucket}" for act in ("list", "get") for bucket in ("inbox", "src-data")}
CHANGES = ("put", "delete", "abort")
ALLOWED = {
    "ingest": {*READS, "rules inbox", "rules src-data"},
    "hasher": READS,
    "etl": {*READS, *(f"{act} processed-data" for act in ("list", "get", "uploads", *CHANGES))},
    "ingress": {
        *READS,
        *(f"{act} {bucket}" for act in ("list", "get") for bucket in ("processed-data", "results", "uploads")),
        *(f"{act} {bucket}" for act in ("uploads", *CHANGES) for bucket in ("inbox", "src-data", "uploads")),
    },
}


@pytest.fixture
def bench(stack):
    made = Bench(stack)
    yield made
    made.close()


@pytest.mark.parametrize("service", ALLOWED)
def test_a_user_may_do_what_its_service_does_and_nothing_else(bench, service):
    assert bench.allowed(service) == ALLOWED[service]


def test_deletes_of_uploads_alone_come_with_delete_after_and_go_with_it(stack, bench):
    with with_switches(stack, hasher_delete_after=True):
        assert bench.allowed("hasher") == ALLOWED["hasher"]
        bench.key = f"uploads/{bench.key}"
        for bucket in bench.buckets:
            bench.root.put_object(Bucket=bucket, Key=bench.key, Body=b"abc")
        assert bench.allowed("hasher") == ALLOWED["hasher"] | {"delete inbox"}
    assert bench.allowed("hasher") == ALLOWED["hasher"]


def test_etl_writes_no_input_but_where_it_puts_its_seed_data(stack, bench):
    with with_switches(stack, etl_seed=True):
        assert bench.allowed("etl") == ALLOWED["etl"] | {"put src-data"}
    assert bench.allowed("etl") == ALLOWED["etl"]


@pytest.mark.parametrize("service", manifests().s3_users)
def test_a_user_makes_no_access_keys_and_changes_no_user(stack, service):
    mine = admin(stack, service)
    with pytest.raises(MinioAdminException, match="AccessDenied"):
        mine.add_service_account(name="mine")
    for command in (
        lambda: mine.user_add(user_name(service), "another-secret"),
        lambda: mine.user_add("mine", "another-secret"),
        lambda: mine.policy_add("mine", policy={"Version": "2012-10-17", "Statement": []}),
        lambda: mine.policy_info(user_name("ingress")),
        lambda: mine.policy_set("consoleAdmin", user=user_name(service)),
        mine.user_list,
        mine.policy_list,
        mine.info,
    ):
        with pytest.raises(MinioAdminException, match="AccessDenied"):
            command()


@pytest.mark.parametrize("service", manifests().s3_users)
def test_temporary_credentials_of_a_user_are_worth_nothing(stack, bench, service):
    made = client(stack, user_name(service), secret_of(stack, service), "sts").assume_role(
        RoleArn="arn:aws:iam::0:role/none", RoleSessionName="mine", DurationSeconds=3600
    )["Credentials"]
    s3 = client(stack, made["AccessKeyId"], made["SecretAccessKey"], aws_session_token=made["SessionToken"])
    for act in (ACTIONS["list"], ACTIONS["get"], ACTIONS["put"]):
        assert not lets(act, s3, "inbox", bench)


def test_users_are_made_once_and_then_nothing_changes(stack):
    settings = CliSettings(
        s3_endpoint=stack.env["PENSTOCK_S3_ENDPOINT"],
        s3_access_key=stack.env["PENSTOCK_S3_ACCESS_KEY"],
        s3_secret_key=SecretStr(stack.env["PENSTOCK_S3_SECRET_KEY"]),
    )
    secrets = {service: SecretStr(secret_of(stack, service)) for service in ALLOWED}
    assert asyncio.run(ensure_users(settings, manifests().s3_users, secrets)) == []
    assert Path(settings.etl_datasets).is_file()
