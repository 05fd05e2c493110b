"""Signed S3 requests over one HTTP session, without a client library (docs/adr/0001).

Keys are sent unaltered. Only a request whose signature was refused is repeated here, once; other retries are the
caller's.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from shared import tls
from shared.errors import Kind, Outage, Rejected, kind_of
from shared.settings import Settings
from shared.storage.credentials import CredentialCheck
from shared.storage.failures import Failure
from shared.storage.objects import ObjectRef
from shared.storage.signing import Signer, path_of, query_of

_NETWORK: Final = (aiohttp.ClientError, OSError, TimeoutError)
_UNSENDABLE: Final = re.compile("[\x00\r\n]")
"""Characters that would end a header."""
CHECK_SECONDS: Final = 5.0
_ERROR_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")
_ERROR_BYTES: Final = 4096
"""Bytes of a failed answer that are searched for its code."""
_MAX_ERROR_BYTES: Final = 4096
"""Longer answers are listings, whose keys may look like an error."""
_ERROR: Final = re.compile(rb"<Error>.*?<Code>(\w+)</Code>", re.DOTALL)
FIRST_ERROR_STATUS: Final = 300
_LOCATION: Final = {"location": ""}
"""https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html"""


class Transport:
    """Sends signed requests to one store and translates failures to our errors."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._session = session
        self._host = urlsplit(settings.s3_endpoint).netloc
        self._signer = Signer(settings.s3_access_key, settings.s3_secret_key, settings.s3_region)
        self._credentials = CredentialCheck(self._credentials_work)

    async def check(self) -> None:
        """Raise Outage if the store serves no requests at all; any other answer means that it works.

        Nothing in the request comes from a record, so no single object can make it fail.
        """
        ref = ObjectRef(self._settings.input_buckets[0], "")
        with self.translate_errors("look at", ref):
            async with asyncio.timeout(CHECK_SECONDS), self.send("GET", ref, query=_LOCATION) as response:
                failure = await self._failure("look at", ref, response)
        if response.status >= FIRST_ERROR_STATUS and kind_of(found := failure.to_error(self._settings)) is Kind.OUTAGE:
            raise found

    async def _credentials_work(self) -> bool:
        try:
            await self.check()
        except Outage:
            return False
        return True

    async def request(self, action: str, method: str, ref: ObjectRef, **sent: Any) -> tuple[Mapping[str, str], bytes]:
        """Send one request; return the headers and the body of the answer."""
        with self.translate_errors(action, ref):
            async with self.open_response(action, method, ref, **sent) as response:
                body = await response.read()
                # a slow request answers 200 at once and reports an error in the body
                if code := error_in(body):
                    raise Failure(action, ref, 500, code).to_error(self._settings)
                return response.headers, body

    def send(
        self,
        method: str,
        ref: ObjectRef,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterable[bytes] = b"",
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send one request; its answer may be a failure."""
        version = {"versionId": ref.version_id} if ref.version_id else {}
        if any(_UNSENDABLE.search(value) for value in (headers or {}).values()):
            raise _unsendable(ref)
        try:
            path, query_string = path_of(ref.bucket, ref.key), query_of({**(query or {}), **version})
        except UnicodeEncodeError as error:
            raise _unsendable(ref) from error
        whole_body = body if isinstance(body, bytes) else None
        signed = self._signer.sign(method, self._host, path, query_string, headers or {}, whole_body)
        target = f"{path}?{query_string}" if query_string else path
        url = URL(f"{self._settings.s3_endpoint.rstrip('/')}{target}", encoded=True)
        return self._session.request(
            method,
            url,
            headers=signed,
            data=body if whole_body is None else BytesIO(whole_body) if whole_body else None,
            allow_redirects=False,
        )

    @asynccontextmanager
    async def open_response(
        self, action: str, method: str, ref: ObjectRef, **sent: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request and open its answer; raise the matching error for a failure."""
        is_repeatable = isinstance(sent.get("body", b""), bytes)
        started = time.monotonic()
        async with self.send(method, ref, **sent) as response:
            if response.status < FIRST_ERROR_STATUS:
                yield response
                return
            failure = await self._failure(action, ref, response)
        if not failure.is_about_credentials or not await self._credentials.works(started):
            raise failure.to_error(self._settings)
        if is_repeatable:  # the credentials may have become valid between the two requests
            async with self.send(method, ref, **sent) as response:
                if response.status < FIRST_ERROR_STATUS:
                    yield response
                    return
                failure = await self._failure(action, ref, response)
        raise failure.to_error(self._settings, credentials_work=True)

    @staticmethod
    async def _failure(action: str, ref: ObjectRef, response: aiohttp.ClientResponse) -> Failure:
        code = _ERROR_CODE.search(await response.content.read(_ERROR_BYTES))
        return Failure(action, ref, response.status, code[1].decode() if code else "")

    @contextmanager
    def translate_errors(self, action: str, ref: ObjectRef) -> Iterator[None]:
        """Translate errors of the connection and of unsendable names."""
        try:
            yield
        except aiohttp.InvalidURL as error:
            raise _unsendable(ref) from error
        except _NETWORK as error:
            reason = tls.describe_failure(error) or f"connection failed ({type(error).__name__})"
            raise Failure(action, ref, None, detail=reason).to_error(self._settings) from error


def _unsendable(ref: ObjectRef) -> Rejected:
    return Rejected("S3_REFUSED", f"the names in a request for {ref} do not fit into a URL or header: rename it")


def error_in(answer: bytes) -> str:
    """Return the code of an error in an answer with status 200, as to a completion; empty on success.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    """
    found = _ERROR.search(answer) if len(answer) < _MAX_ERROR_BYTES else None
    return found[1].decode() if found else ""
