"""The peer: Celery over Redis, prefork workers with late acknowledgement, boto3, the same digests.

Tuned as its documentation advises for many short tasks: a high prefetch, no gossip, mingle or events, one keep-alive S3
client a process, no unrequested checksum. What it acknowledges is in Redis' append-only file, as what Kafka
acknowledges is in its log: neither is lost when a process is killed.
"""

import hashlib
import os
from typing import Any

import blake3
import boto3
from botocore.config import Config
from celery import Celery
from celery.signals import worker_process_init

DIGESTS: dict[str, Any] = {"md5": hashlib.md5, "sha256": hashlib.sha256, "blake3": blake3.blake3}

app = Celery("peer", broker=f"{os.environ['PEER_REDIS_URL']}/0", backend=f"{os.environ['PEER_REDIS_URL']}/1")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=int(os.environ.get("PEER_PREFETCH", "16")),
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    result_expires=3600,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)

_s3: Any = None


@worker_process_init.connect
def _connect(**_: object) -> None:
    global _s3  # noqa: PLW0603 - one client a process, made after the fork
    _s3 = boto3.client(
        "s3",
        endpoint_url=os.environ["PENSTOCK_S3_ENDPOINT"],
        aws_access_key_id=os.environ["PENSTOCK_S3_ACCESS_KEY"],
        aws_secret_access_key=os.environ["PENSTOCK_S3_SECRET_KEY"],
        region_name="us-east-1",
        config=Config(
            response_checksum_validation="when_required",
            request_checksum_calculation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


@app.task(name="digest")
def digest(bucket: str, key: str) -> dict[str, str]:
    """Return the hex digests of an object; the result backend keeps them."""
    states = {name: make() for name, make in DIGESTS.items()}
    for chunk in _s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
        for state in states.values():
            state.update(chunk)
    return {name: state.hexdigest() for name, state in states.items()}
