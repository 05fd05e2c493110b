"""The ingress of a running stack, and a client of it."""

from collections.abc import Mapping
from typing import Any

import httpx

from tests.support.world import ANY_ETAG, World


def serve(world: World, **settings: object) -> str:
    """Let the ingress run with exactly these settings; return its address."""
    world.serve("ingress", **settings)
    return str(world.stack.env["PENSTOCK_HTTP_URL"])


def expire(world: World, token: Mapping[str, Any]) -> None:
    """Let a token's time be over now, however long the test took to get here."""
    world.database.rows("UPDATE ingress.tokens SET expires_at = clock_timestamp() WHERE id = $1", token["id"])


def client(world: World, token: str | None = "", **options: Any) -> httpx.Client:
    """Return a client of the ingress: as the operator, with another token, or (None) with none."""
    secret = world.stack.env["PENSTOCK_TOKEN"] if token == "" else token
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    return httpx.Client(base_url=world.stack.env["PENSTOCK_HTTP_URL"], headers=headers, timeout=30, **options)


def put(world: World, through: httpx.Client, name: str, body: bytes, *, bucket: str = "inbox") -> httpx.Response:
    """Store `body` under the world's prefix by way of the ingress; remembered before it is sent."""
    key = world.prefix + name
    world.bodies[bucket, key][ANY_ETAG] = body
    world.tries[bucket, key, ANY_ETAG] += 1
    return through.put(f"/objects/{bucket}/{key}", content=body)
