"""The ingress of a running stack, and a client of it."""

from collections.abc import Mapping
from typing import Any

import httpx

from tests.support.system import ANY_ETAG, SystemUnderTest


def serve(system: SystemUnderTest, **settings: object) -> str:
    """Let the ingress run with exactly these settings; return its address."""
    system.serve("ingress", **settings)
    return str(system.stack.env["PENSTOCK_HTTP_URL"])


def expire(system: SystemUnderTest, token: Mapping[str, Any]) -> None:
    """Let a token's time be over now, however long the test took to get here."""
    system.database.rows("UPDATE ingress.tokens SET expires_at = clock_timestamp() WHERE id = $1", token["id"])


def client(system: SystemUnderTest, token: str | None = "", **options: Any) -> httpx.Client:
    """Return a client of the ingress: as the operator, with another token, or (None) with none."""
    secret = system.stack.env["PENSTOCK_TOKEN"] if token == "" else token
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    return httpx.Client(base_url=system.stack.env["PENSTOCK_HTTP_URL"], headers=headers, timeout=30, **options)


def put(system: SystemUnderTest, via: httpx.Client, name: str, body: bytes, *, bucket: str = "inbox") -> httpx.Response:
    """Store `body` under the test's prefix by way of the ingress; remembered before it is sent."""
    key = system.prefix + name
    system.bodies[bucket, key][ANY_ETAG] = body
    system.put_counts[bucket, key, ANY_ETAG] += 1
    return via.put(f"/objects/{bucket}/{key}", content=body)
