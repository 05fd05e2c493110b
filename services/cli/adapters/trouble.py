"""The one place where the console turns libraries' errors into a line a person can act on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiokafka.errors import KafkaError
from asyncpg import InterfaceError, PostgresError, UndefinedTableError
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import Outage, PenstockError, Rejected, one_line

START = "start the stack with `make up`, or see what is wrong with `penstock doctor`"
SETUP = "run `penstock setup`"
LOGIN = "check the keys in .env"

_DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"}
_SILENT = (OSError, TimeoutError, BotoCoreError, KafkaError, InterfaceError, PostgresError)


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Name the server that failed, why, and what to do.

    Raises:
        Outage: it does not answer.
        Rejected: it answers, and refuses.

    """
    try:
        yield
    except PenstockError:
        raise
    except ClientError as error:
        raise _refused(what, error) from error
    except UndefinedTableError as error:
        raise Rejected(
            "NOT_SET_UP", f"{what}: {one_line(error)}; the services make their views at start: {START}"
        ) from error
    except _SILENT as error:
        raise Outage(f"{what} does not answer: {one_line(error)}; {START}") from error


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """Give a server this long.

    Raises:
        Outage: that was not enough, or it failed before.

    """
    with reaching(what):
        async with asyncio.timeout(seconds):
            yield


def _refused(what: str, error: ClientError) -> PenstockError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _DENIED:
        return Rejected("ACCESS_DENIED", f"{what} refuses {error.operation_name}: {code}; {LOGIN}")
    if code == "NoSuchBucket":
        bucket = error.response.get("Error", {}).get("BucketName", "")
        return Rejected(
            "NO_SUCH_BUCKET", f"{what} has no bucket {bucket}; make it, or {SETUP} for Penstock's own"
        )
    return Outage(f"{what} failed: {one_line(error)}; {START}")
