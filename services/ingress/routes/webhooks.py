"""Webhooks: facts sent to an address of yours, signed, at least once, in order."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from services.ingress.core.fact_filter import MAX_TYPES, FactFilter, parse_types
from services.ingress.core.fact_rendering import render_fact
from services.ingress.core.webhook_signing import new_webhook_id
from services.ingress.core.webhooks import Webhook, describe, synthetic_fact
from services.ingress.routes.auth_dependencies import Admin, Deps
from services.ingress.routes.json_route import JsonRoute

log = structlog.get_logger()
router = APIRouter(route_class=JsonRoute, prefix="/webhooks", tags=["webhooks"])


class NewWebhook(BaseModel):
    """A webhook to create; empty fields match everything."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2000, description="http or https, at a public address.")
    types: tuple[Annotated[str, Field(max_length=200)], ...] = Field((), max_length=MAX_TYPES)
    bucket: str = Field("", max_length=63, pattern=r"^[^\x00]*$")
    prefix: str = Field("", max_length=1024, pattern=r"^[^\x00]*$")


@router.post("", status_code=201)
async def create_webhook(body: NewWebhook, principal: Admin, deps: Deps) -> dict[str, Any]:
    """Create a webhook for facts from now on; `secret`, which signs deliveries, is in this answer only."""
    webhook_id = new_webhook_id()
    secret = deps.sender.secret(webhook_id)
    await deps.sender.check(body.url)
    hook = await deps.webhooks.add(
        Webhook(
            id=webhook_id,
            url=body.url,
            fact_filter=FactFilter(parse_types(body.types), body.bucket, body.prefix),
            prefixes=principal.prefixes,
            cursor=await deps.feed.start_cursor(None),
            created_by=principal.name,
            token_id=principal.id,
            created_at=datetime.now(UTC),
        )
    )
    log.info("audit.webhook_created", by=principal.name, webhook=hook.id)
    return {**describe(hook), "secret": secret}


@router.get("")
async def list_webhooks(principal: Admin, deps: Deps) -> list[dict[str, Any]]:
    """List webhooks with their cursors; a token with `places` sees its own and those of its descendants."""
    return [describe(hook) for hook in await deps.webhooks.all(principal.administers)]


@router.get("/{webhook_id}")
async def get_webhook(webhook_id: str, principal: Admin, deps: Deps) -> dict[str, Any]:
    """Return one webhook."""
    return describe(await deps.webhooks.get(webhook_id, principal.administers))


@router.delete("/{webhook_id}", status_code=204)
async def delete_webhook(webhook_id: str, principal: Admin, deps: Deps) -> None:
    """Delete a webhook and its failed deliveries."""
    hook = await deps.webhooks.get(webhook_id, principal.administers)
    await deps.webhooks.remove(hook.id)
    log.info("audit.webhook_removed", by=principal.name, webhook=hook.id)


@router.post("/{webhook_id}/test")
async def test_webhook(webhook_id: str, principal: Admin, deps: Deps) -> dict[str, Any]:
    """Send one event of type `webhooks.tried.v1` now, and return the receiver's answer."""
    hook = await deps.webhooks.get(webhook_id, principal.administers)
    await deps.webhooks.require_valid_token(hook.id)
    log.info("audit.webhook_tried", by=principal.name, webhook=hook.id)
    async with deps.sender.client() as client:
        outcome = await deps.sender.send(
            client, hook.id, hook.url, render_fact(synthetic_fact(hook, datetime.now(UTC)))
        )
    return {"taken": outcome.error is None, **asdict(outcome)}


@router.get("/{webhook_id}/failures")
async def list_failures(
    webhook_id: str,
    principal: Admin,
    deps: Deps,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """Return the facts that could not be delivered, oldest first."""
    hook = await deps.webhooks.get(webhook_id, principal.administers)
    return [asdict(one) for one in await deps.webhooks.failures(hook.id, after, limit)]


@router.post("/{webhook_id}/retry", status_code=202)
async def retry_webhook(webhook_id: str, principal: Admin, deps: Deps) -> dict[str, Any]:
    """Send failed deliveries again and enable a disabled webhook, unless its token has ended."""
    hook = await deps.webhooks.get(webhook_id, principal.administers)
    again = await deps.webhooks.retry(hook.id)
    log.info("audit.webhook_retried", by=principal.name, webhook=hook.id, facts=again)
    return {"facts": again}
