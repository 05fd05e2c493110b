"""The ingress over HTTP, for whoever reaches nothing else: its answers as values, its refusals as one line."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from services.cli.adapters import files
from services.cli.adapters.journal import Stamp
from services.cli.adapters.objects import Stored
from services.cli.adapters.trouble import START, reaching
from services.cli.adapters.upload import Manners, check_unchanged
from services.cli.core.address import Address
from services.cli.core.sse import EventReader, ServerEvent
from services.cli.settings import CliSettings
from shared import tls
from shared.errors import Outage, PenstockError, Rejected

TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0, write=60.0, read=60.0)
CHUNK: Final = 1 << 20
RETRY_SECONDS: Final = 1.0
UNAUTHORIZED, TOO_MANY, SERVERS_OWN, REFUSED = 401, 429, 500, 400
Progress = Callable[[int], object]


class Ingress:
    """A client of one ingress; every method raises Outage or Rejected in one line with cause and mend."""

    def __init__(self, url: str, token: str, verify: ssl.SSLContext) -> None:
        self.url = url.rstrip("/")
        if not token.isascii() or not all(char.isprintable() for char in token):
            raise Rejected("BAD_TOKEN", "PENSTOCK_TOKEN holds characters that no token has; copy it again")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        # a proxy of the environment would read the token of a request without TLS
        by_proxy = self.url.lower().startswith("https:")
        self._client = httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=TIMEOUT, verify=verify, trust_env=by_proxy
        )

    @classmethod
    def of(cls, settings: CliSettings, url: str = "") -> Self:
        """Return a client of the ingress at `url`, or of the stack's own, with the operator's token."""
        return cls(url or settings.http_url, settings.token.get_secret_value(), tls.context(settings))

    async def __aenter__(self) -> Self:
        """Open it for a block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def create_token(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Make a token; its text is under `token`."""
        made: dict[str, Any] = await self._json("POST", "/tokens", json=wanted)
        return made

    async def tokens(self) -> list[dict[str, Any]]:
        """Return the tokens that hold."""
        found: list[dict[str, Any]] = await self._json("GET", "/tokens")
        return found

    async def revoke_token(self, number: str) -> None:
        """Revoke the token of this id."""
        await self._asked("DELETE", f"/tokens/{quote(number, safe='')}")

    async def login_link(self) -> str:
        """Return an address that logs one browser in, once."""
        return str((await self._json("POST", "/login/links"))["url"])

    async def stats(self, which: str) -> dict[str, Any]:
        """Return the statistics of `database` or `workers`."""
        told: dict[str, Any] = await self._json("GET", f"/stats/{which}")
        return told

    async def timeline(self, address: Address, *, limit: int = 100) -> dict[str, Any] | None:
        """Return what is known of an object: its facts in order, and how it is now; None when that is nothing."""
        try:
            told: dict[str, Any] = await self._json("GET", f"/timeline/{_path(address)}", params={"limit": limit})
        except Rejected as refusal:
            if refusal.code == "NO_SUCH_OBJECT":
                return None
            raise
        return told

    async def digest_rows(self, addresses: Sequence[Address]) -> dict[Address, dict[str, Any]]:
        """Return the hasher's newest rows of these objects."""
        told = {one: await self.timeline(one, limit=1) for one in addresses}
        return {one: known["digests"][-1] for one, known in told.items() if known and known["digests"]}

    async def upload(
        self, address: Address, pieces: AsyncIterator[bytes], *, headers: Mapping[str, str], size: int
    ) -> Stored:
        """Store an object of `size` bytes as they come."""
        sent = {**headers, "content-length": str(size)}
        told = await self._json("PUT", f"/objects/{_path(address)}", headers=sent, content=pieces)
        return Stored(told["etag"], told["size"])

    async def events(self, query: Mapping[str, Any], *, after: str = "") -> AsyncGenerator[ServerEvent]:
        """Follow the facts after the event of this id, or from now on, over interruptions, for ever."""
        reader = EventReader(after)
        is_there = False
        while True:
            headers = {"accept": "text/event-stream"} | ({"last-event-id": reader.last_id} if reader.last_id else {})
            try:
                async with self._sent("GET", "/events", params=query, headers=headers) as answer:
                    is_there = True
                    async for line in answer.aiter_lines():
                        if event := reader.read(line):
                            yield event
            except Outage:
                if not is_there:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        return (await self._asked(method, path, **options)).json()

    async def _asked(self, method: str, path: str, **options: Any) -> httpx.Response:
        async with self._sent(method, path, **options) as answer:
            await answer.aread()
            return answer

    @asynccontextmanager
    async def _sent(self, method: str, path: str, **options: Any) -> AsyncIterator[httpx.Response]:
        try:
            with reaching(f"the ingress at {self.url}"):
                async with self._client.stream(method, path, **options) as answer:
                    if answer.status_code >= REFUSED:
                        await answer.aread()
                        raise self._refusal(answer)
                    yield answer
        except httpx.InvalidURL as error:
            raise Rejected("BAD_URL", f"{self.url} is no address: {error}; write http://host:port") from None
        except httpx.TimeoutException as error:
            raise Outage(f"the ingress at {self.url} does not answer: no answer in time; {START}") from error
        except httpx.HTTPError as error:
            raise Outage(f"the ingress at {self.url} does not answer: {error or 'cut off'}; {START}") from error

    def _refusal(self, answer: httpx.Response) -> PenstockError:
        try:
            told = dict(answer.json())
        except ValueError:
            told = {}
        detail = told.get("detail") or f"HTTP {answer.status_code}, and it is no ingress that says so"
        if answer.status_code == UNAUTHORIZED:
            detail = f"{detail}; set PENSTOCK_TOKEN, or see .env"
        text = f"the ingress at {self.url}: {detail}"
        if answer.status_code == TOO_MANY or answer.status_code >= SERVERS_OWN:
            return Outage(text)
        return Rejected(str(told.get("code", "REFUSED")), text)


class HttpUploader:
    """Stores files through an ingress; `on_bytes` hears of bytes as they are sent."""

    def __init__(self, ingress: Ingress, manners: Manners, on_bytes: Progress) -> None:
        self._ingress = ingress
        self._manners = manners
        self._on_bytes = on_bytes

    async def store(self, path: Path, address: Address) -> Stored:
        """Store one file whole.

        Raises:
            Rejected: the file cannot be read or changes while it is read.

        """
        stamp = files.stamp_of(path)
        metadata = await self._manners.declared(path)
        headers = {
            "content-type": self._manners.content_type(path),
            **{f"x-amz-meta-{name}": value for name, value in metadata.items()},
        }
        return await self._ingress.upload(address, self._pieces(path, stamp), headers=headers, size=stamp.size)

    async def _pieces(self, path: Path, stamp: Stamp) -> AsyncIterator[bytes]:
        for start in range(0, stamp.size, CHUNK):
            piece = await asyncio.to_thread(files.read, path, start, min(CHUNK, stamp.size - start))
            check_unchanged(path, stamp)  # before the last byte leaves, so that nothing is stored
            yield piece
            self._on_bytes(len(piece))


def _path(address: Address) -> str:
    """Return a key as a path that nobody on its way shortens, though it has steps of dots alone."""
    steps = (quote(step, safe="") if step.strip(".") else "%2E" * len(step) for step in address.key.split("/"))
    return f"{quote(address.bucket, safe='')}/{'/'.join(steps)}"
