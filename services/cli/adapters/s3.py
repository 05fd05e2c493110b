"""The object store, as a plain S3 client with the operator's own keys."""

from contextlib import AbstractAsyncContextManager
from typing import Any

from aiobotocore.config import AioConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)

from services.cli.adapters import trouble
from services.cli.adapters.trouble import within
from services.cli.settings import CliSettings
from shared.errors import Outage, PenstockError, Rejected
from shared.storage.admin_client import NO_PROXIES, isolated_session
from shared.storage.failures import require_credentials

CONNECT_SECONDS = 5
READ_SECONDS = 60
BAD_REQUEST = 400
_DENIED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"})


def _explain_response(server: str, error: ClientError) -> PenstockError:
    details = error.response.get("Error", {})
    code = str(details.get("Code", ""))
    if code in _DENIED:
        return Rejected("ACCESS_DENIED", f"{server} refuses {error.operation_name}: {code}; {trouble.LOGIN}")
    if code == "NoSuchBucket":
        return Rejected("NO_SUCH_BUCKET", f"{server} has no bucket {details.get('BucketName', '')}; {trouble.SETUP}")
    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == BAD_REQUEST:
        return Rejected("REFUSED", f"{server} rejected the request: {details.get('Message') or code}")
    return Outage(f"{server} failed: {error.operation_name}: {details.get('Message') or code}; {trouble.START}")


trouble.register_rejections(_explain_response, ClientError)
trouble.register_outages("", HTTPClientError)
trouble.register_outages("no answer in time", ConnectTimeoutError)
trouble.register_outages("cannot connect", EndpointConnectionError)
trouble.register_failures(BotoCoreError)


def name_of(settings: CliSettings) -> str:
    """Name the object store as errors name it."""
    return f"the object store at {settings.s3_endpoint}"


def open_s3(settings: CliSettings, *, connections: int = 10, attempts: int = 3) -> AbstractAsyncContextManager[Any]:
    """Open a client with this many connections at most, each call tried `attempts` times.

    Every body is signed by its SHA-256, over TLS too, so that the server refuses damaged bytes. Raises Rejected
    (SETTINGS) without an S3 user.
    """
    require_credentials(settings)
    config = AioConfig(
        max_pool_connections=connections,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path", "payload_signing_enabled": True},
        proxies=NO_PROXIES,
    )
    client: AbstractAsyncContextManager[Any] = isolated_session().create_client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        verify=settings.tls_ca and str(settings.tls_ca),
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
        config=config,
    )
    return client


async def ping(settings: CliSettings, seconds: float = 5) -> None:
    """Ask for the list of buckets.

    Raises:
        Outage: no answer within `seconds`.
        Rejected: the keys are wrong.

    """
    async with within(seconds, name_of(settings)), open_s3(settings, attempts=1) as client:
        await client.list_buckets()
