"""HTTP client of the ingress, for hosts that reach only it."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, ServerSentEvent

from services.cli.adapters import files
from services.cli.adapters.errors import START_HINT, translate_errors
from services.cli.adapters.journal import Stamp
from services.cli.adapters.objects import StoredObject
from services.cli.adapters.upload import UploadOptions, check_unchanged
from services.cli.core.address import Address
from services.cli.settings import CliSettings
from shared import tls
from shared.errors import Outage, PenstockError, Rejected

TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0, write=60.0, read=60.0)
CHUNK: Final = 1 << 20
RETRY_SECONDS: Final = 1.0
CLIENT_ERROR, UNAUTHORIZED, TOO_MANY_REQUESTS, SERVER_ERROR = 400, 401, 429, 500
Progress = Callable[[int], object]


class IngressClient:
    """Client of one ingress; every method raises Outage or Rejected, with cause and fix in one line."""

    def __init__(self, url: str, token: str, verify: ssl.SSLContext) -> None:
        self.url = url.rstrip("/")
        if not token.isascii() or not all(char.isprintable() for char in token):
            raise Rejected("BAD_TOKEN", "PENSTOCK_TOKEN has characters that no token has: copy it again")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        # without TLS, a proxy of the environment would read the token
        by_proxy = self.url.lower().startswith("https:")
        self._client = httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=TIMEOUT, verify=verify, trust_env=by_proxy
        )

    @classmethod
    def from_settings(cls, settings: CliSettings, url: str = "") -> Self:
        """Return a client with the operator's token for the ingress at `url`, by default at PENSTOCK_HTTP_URL."""
        return cls(url or settings.http_url, settings.token.get_secret_value(), tls.context(settings))

    async def __aenter__(self) -> Self:
        """Return this client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def create_token(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Create a token; its text is under `token`."""
        created: dict[str, Any] = await self._json("POST", "/tokens", json=request)
        return created

    async def tokens(self) -> list[dict[str, Any]]:
        """Return the valid tokens."""
        found: list[dict[str, Any]] = await self._json("GET", "/tokens")
        return found

    async def revoke_token(self, token_id: str) -> None:
        """Revoke a token."""
        await self._request("DELETE", f"/tokens/{quote(token_id, safe='')}")

    async def login_link(self) -> str:
        """Return a URL that logs in one browser, once."""
        return str((await self._json("POST", "/login/links"))["url"])

    async def timeline(self, address: Address, *, limit: int = 100) -> dict[str, Any] | None:
        """Return the facts of an object in order, its state and its digests; None for an unknown object."""
        try:
            timeline: dict[str, Any] = await self._json("GET", f"/timeline/{_path(address)}", params={"limit": limit})
        except Rejected as error:
            if error.code == "NO_SUCH_OBJECT":
                return None
            raise
        return timeline

    async def digest_rows(self, addresses: Sequence[Address]) -> dict[Address, dict[str, Any]]:
        """Return the hasher's newest rows of these objects."""
        timelines = {one: await self.timeline(one, limit=1) for one in addresses}
        return {one: found["digests"][-1] for one, found in timelines.items() if found and found["digests"]}

    async def upload(
        self, address: Address, chunks: AsyncIterator[bytes], *, headers: Mapping[str, str], size: int
    ) -> StoredObject:
        """Stream an object of `size` bytes into its bucket."""
        sent = {**headers, "content-length": str(size)}
        stored = await self._json("PUT", f"/objects/{_path(address)}", headers=sent, content=chunks)
        return StoredObject(stored["etag"], stored["size"])

    async def events(self, query: Mapping[str, Any], *, after: str = "") -> AsyncGenerator[ServerSentEvent]:
        """Yield the facts after the event id `after`, or from now on, without an end; reconnect after interruptions.

        Raises:
            Outage: the first connection fails.

        """
        last_id, connected = after, False
        while True:
            headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
            try:
                async with self._stream("GET", "/events", params=query, headers=headers) as answer:
                    connected = True
                    async for event in EventSource(answer).aiter_sse():
                        last_id = event.id or last_id
                        if event.data:
                            yield event
            except Outage:
                if not connected:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        return (await self._request(method, path, **options)).json()

    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async with self._stream(method, path, **options) as answer:
            await answer.aread()
            return answer

    @asynccontextmanager
    async def _stream(self, method: str, path: str, **options: Any) -> AsyncIterator[httpx.Response]:
        try:
            with translate_errors(f"the ingress at {self.url}"):
                async with self._client.stream(method, path, **options) as answer:
                    if answer.status_code >= CLIENT_ERROR:
                        await answer.aread()
                        raise _to_error(self.url, answer)
                    yield answer
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Rejected("BAD_URL", f"{self.url} is not a URL: {error}; write http://host:port") from None
        except httpx.TimeoutException as error:
            raise Outage(f"the ingress at {self.url} does not answer: no answer in time; {START_HINT}") from error
        except httpx.HTTPError as error:
            raise Outage(
                f"the ingress at {self.url} does not answer: {error or 'connection lost'}; {START_HINT}"
            ) from error


def _to_error(url: str, answer: httpx.Response) -> PenstockError:
    try:
        problem = dict(answer.json())
    except ValueError:
        problem = {}
    detail = problem.get("detail") or f"HTTP {answer.status_code}, not from an ingress"
    if answer.status_code == UNAUTHORIZED:
        detail = f"{detail}; set PENSTOCK_TOKEN, or see .env"
    text = f"the ingress at {url}: {detail}"
    if answer.status_code == TOO_MANY_REQUESTS or answer.status_code >= SERVER_ERROR:
        return Outage(text)
    return Rejected(str(problem.get("code", "REFUSED")), text)


class HttpUploader:
    """Stores files through an ingress; calls `on_bytes` with the number of bytes sent."""

    def __init__(self, ingress: IngressClient, options: UploadOptions, on_bytes: Progress) -> None:
        self._ingress = ingress
        self._options = options
        self._on_bytes = on_bytes

    async def store(self, path: Path, address: Address) -> StoredObject:
        """Store one file in one request.

        Raises:
            Rejected: UNREADABLE, FILE_CHANGED, or an error of the ingress.

        """
        stamp = files.stamp_of(path)
        metadata = await self._options.user_metadata(path)
        headers = {
            "content-type": self._options.content_type(path),
            **{f"x-amz-meta-{name}": value for name, value in metadata.items()},
        }
        return await self._ingress.upload(address, self._chunks(path, stamp), headers=headers, size=stamp.size)

    async def _chunks(self, path: Path, stamp: Stamp) -> AsyncIterator[bytes]:
        async with aclosing(files.chunks(path, 0, stamp.size, chunk_bytes=CHUNK)) as chunks:
            async for chunk in chunks:
                check_unchanged(path, stamp)  # before the last chunk, so that the ingress stores nothing
                yield chunk
                self._on_bytes(len(chunk))


def _path(address: Address) -> str:
    """Return the URL path of an object; segments of dots are encoded, so that no client or proxy normalizes them."""
    segments = (quote(one, safe="") if one.strip(".") else "%2E" * len(one) for one in address.key.split("/"))
    return f"{quote(address.bucket, safe='')}/{'/'.join(segments)}"
