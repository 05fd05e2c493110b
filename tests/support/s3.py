"""A plain S3 client, independent of the project's own, with the operator's keys."""

from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config


def s3_client(env: Mapping[str, str], config: Config | None = None) -> Any:
    """Return a boto3 client of the object store that PENSTOCK_S3_* in `env` name."""
    return boto3.client(  # type: ignore[no-untyped-call]
        "s3",
        endpoint_url=env["PENSTOCK_S3_ENDPOINT"],
        aws_access_key_id=env["PENSTOCK_S3_ACCESS_KEY"],
        aws_secret_access_key=env["PENSTOCK_S3_SECRET_KEY"],
        region_name="us-east-1",
        verify=env.get("PENSTOCK_TLS_CA") or None,
        config=config,
    )
