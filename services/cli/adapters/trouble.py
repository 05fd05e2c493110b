"""The one place where the console turns libraries' errors into a line a person can act on."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
from aiokafka.errors import KafkaConnectionError, KafkaError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)

from shared import kafka, tls
from shared.errors import Outage, PenstockError, Rejected, one_line

START = "start the stack with `make up`, or ask `penstock doctor`"
SETUP = "`penstock setup` makes Penstock's own"
LOGIN = "check the keys in .env"

BAD_REQUEST = 400
_DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"}
_SILENT = (OSError, TimeoutError, HTTPClientError, KafkaConnectionError, asyncpg.CannotConnectNowError)
_TROUBLED = (BotoCoreError, KafkaError, asyncpg.InterfaceError, asyncpg.PostgresError)
_NOT_MADE = (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError)


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Name the server that failed, why, and what to do.

    Raises:
        Outage: it does not answer.
        Rejected: it answers, and refuses.

    """
    try:
        yield
    except (PenstockError, BrokenPipeError):
        # a broken pipe is our reader's, not a server's
        raise
    except ClientError as error:
        raise _refused(what, error) from error
    except _NOT_MADE as error:
        reason = f"{what}: {one_line(error)}; services make their views as they start: {START}"
        raise Rejected("NOT_SET_UP", reason) from error
    except kafka.AUTHORIZATION_ERRORS as error:
        raise Rejected("ACCESS_DENIED", f"{what} denies this user: {one_line(error)}; {kafka.GRANT_HINT}") from error
    except _SILENT as error:
        raise Outage(f"{what} does not answer: {why(error)}; {START}") from error
    except _TROUBLED as error:
        raise Outage(f"{what} failed: {why(error)}; {START}") from error


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """Give a server this long.

    Raises:
        Outage: that was not enough, or it failed before.

    """
    with reaching(what):
        async with asyncio.timeout(seconds):
            yield


def why(error: BaseException) -> str:
    """Say a connection's failure in the words of the system, anything else in its own."""
    if reason := tls.describe_failure(error):
        return reason
    if isinstance(error, TimeoutError | ConnectTimeoutError):
        return "no answer in time"
    if isinstance(error, KafkaConnectionError | EndpointConnectionError):
        return "cannot connect"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return one_line(error)


def _refused(what: str, error: ClientError) -> PenstockError:
    told = error.response.get("Error", {})
    code = str(told.get("Code", ""))
    if code in _DENIED:
        return Rejected("ACCESS_DENIED", f"{what} refuses {error.operation_name}: {code}; {LOGIN}")
    if code == "NoSuchBucket":
        return Rejected("NO_SUCH_BUCKET", f"{what} has no bucket {told.get('BucketName', '')}; {SETUP}")
    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == BAD_REQUEST:
        return Rejected("REFUSED", f"{what} was refused: {told.get('Message') or code}")
    return Outage(f"{what} failed: {error.operation_name}: {told.get('Message') or code}; {START}")
