"""S3 clients with the operator's keys."""

import functools
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)

from services.cli.adapters import errors
from services.cli.adapters.errors import within
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
        return Rejected("ACCESS_DENIED", f"{server} denies {error.operation_name}: {code}; {errors.KEYS_HINT}")
    if code == "NoSuchBucket":
        return Rejected(
            "NO_SUCH_BUCKET", f"{server} has no bucket {details.get('BucketName', '')}; {errors.SETUP_HINT}"
        )
    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == BAD_REQUEST:
        return Rejected("BAD_REQUEST", f"{server}: request rejected: {details.get('Message') or code}")
    return Outage(f"{server} failed: {error.operation_name}: {details.get('Message') or code}; {errors.START_HINT}")


errors.register_rejections(_explain_response, ClientError)
errors.register_outages("", HTTPClientError)
errors.register_outages("no answer in time", ConnectTimeoutError)
errors.register_outages("cannot connect", EndpointConnectionError)
errors.register_failures(BotoCoreError)


def name_of(settings: CliSettings) -> str:
    """Return the name of the server in error texts."""
    return f"the object store at {settings.s3_endpoint}"


def open_s3(settings: CliSettings, *, connections: int = 10, attempts: int = 3) -> AbstractAsyncContextManager[Any]:
    """Open a client with at most `connections` connections that tries each call at most `attempts` times.

    Bodies are signed with their SHA-256, over TLS too, so that the server rejects corrupted bytes. Raises Rejected
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
    client: AbstractAsyncContextManager[Any] = _session().create_client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        verify=settings.tls_ca and str(settings.tls_ca),
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
        config=config,
    )
    return client


@functools.cache
def _session() -> AioSession:
    """Return the session of all clients; each session loads botocore's models again, in 0.15 to 0.5 s of CPU."""
    return isolated_session()


async def ping(settings: CliSettings, seconds: float = 5) -> None:
    """List the buckets.

    Raises:
        Outage: no answer within `seconds`.
        Rejected: ACCESS_DENIED.

    """
    async with within(seconds, name_of(settings)), open_s3(settings, attempts=1) as client:
        await client.list_buckets()
