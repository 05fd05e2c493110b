"""The rest of S3, through aiobotocore: buckets, notification rules, multipart uploads.

Importing and opening it costs about 45 MiB and half a second, for it reads the models of its service; services read
and write objects through `store` and never pay.
"""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConstantProvider
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.session import Session

from shared import tls
from shared.settings import Settings
from shared.storage.failures import Failure, require_credentials
from shared.storage.objects import ObjectRef

NO_PROXIES: Final[Mapping[str, str]] = {}
"""Instead of those of the environment: the object store is reached as everything else of the stack is."""
_CONFIG: Final = AioConfig(
    # the default of 10 is a queue
    max_pool_connections=64,
    connect_timeout=5,
    read_timeout=60,
    # waiting is the retry middleware's
    retries={"total_max_attempts": 1},
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    proxies=NO_PROXIES,
)
_NETWORK: Final = (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError)


def isolated_session() -> AioSession:
    """Return a session that knows nothing of the host."""
    session = AioSession()
    isolate(session)
    return session


def isolate(session: Session) -> None:
    """Keep `~/.aws` and AWS_* from changing what the clients of a session do."""
    store = session.get_component("config_store")
    for name, (_, _, default, _) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        store.set_config_provider(name, ConstantProvider(default))
    for name in ("config_file", "credentials_file"):
        store.set_config_provider(name, ConstantProvider(os.devnull))


@asynccontextmanager
async def open_client(settings: Settings) -> AsyncIterator[Any]:
    """Give a plain aiobotocore S3 client: path style, no retries and no checksums of its own."""
    require_credentials(settings)
    async with isolated_session().create_client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
        region_name=settings.s3_region,
        verify=settings.tls_ca and str(settings.tls_ca),
        config=_CONFIG,
    ) as client:
        yield client


@contextmanager
def translate_errors(settings: Settings, action: str, ref: ObjectRef) -> Iterator[None]:
    """Raise what the client reports as what it means to us (`Failure.meaning`)."""
    try:
        yield
    except ParamValidationError:
        raise
    except ClientError as error:
        status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        raise Failure(action, ref, status, "" if code.isdigit() else code).to_error(settings) from error
    except _NETWORK as error:
        reason = tls.describe_failure(error) or f"connection failed ({type(error).__name__})"
        raise Failure(action, ref, None, detail=reason).to_error(settings) from error
