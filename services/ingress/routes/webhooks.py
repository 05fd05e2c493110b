"""Webhooks: facts sent to an address of yours, signed, at least once, in order."""

import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from services.ingress.core.fact_filter import MAX_TYPES, Wanted, types_in
from services.ingress.core.fact_rendering import told
from services.ingress.core.webhooks import Webhook, described, trial
from services.ingress.routes.auth_dependencies import Admin, Through
from services.ingress.routes.json_route import JsonRoute

log = structlog.get_logger()
router = APIRouter(route_class=JsonRoute, prefix="/webhooks", tags=["webhooks"])


class WebhookWanted(BaseModel):
    """A webhook as it is asked for; what is left empty chooses all."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2000, description="http or https, at a public address.")
    types: tuple[Annotated[str, Field(max_length=200)], ...] = Field((), max_length=MAX_TYPES)
    bucket: str = Field("", max_length=63, pattern=r"^[^\x00]*$")
    prefix: str = Field("", max_length=1024, pattern=r"^[^\x00]*$")


@router.post("", status_code=201)
async def create_webhook(asked: WebhookWanted, who: Admin, through: Through) -> dict[str, Any]:
    """Make a webhook that is told of facts from now on; `secret`, which signs them, is told this once."""
    number = secrets.token_hex(8)
    secret = through.sender.secret(number)
    await through.sender.check(asked.url)
    hook = await through.webhooks.add(
        Webhook(
            id=number,
            url=asked.url,
            wanted=Wanted(types_in(asked.types), asked.bucket, asked.prefix),
            places=who.places,
            cursor=await through.feed.begin(None),
            created_by=who.name,
            token_id=who.id,
            created_at=datetime.now(UTC),
        )
    )
    log.info("audit.webhook_created", by=who.name, webhook=hook.id)
    return {**described(hook), "secret": secret}


@router.get("")
async def list_webhooks(who: Admin, through: Through) -> list[dict[str, Any]]:
    """Return every webhook, and how far each is; a token with places sees its own and those of tokens it made."""
    return [described(hook) for hook in await through.webhooks.all(who.administers)]


@router.get("/{number}")
async def get_webhook(number: str, who: Admin, through: Through) -> dict[str, Any]:
    """Return one webhook."""
    return described(await through.webhooks.get(number, who.administers))


@router.delete("/{number}", status_code=204)
async def delete_webhook(number: str, who: Admin, through: Through) -> None:
    """Remove a webhook, and what it did not take."""
    hook = await through.webhooks.get(number, who.administers)
    await through.webhooks.remove(hook.id)
    log.info("audit.webhook_removed", by=who.name, webhook=hook.id)


@router.post("/{number}/test")
async def try_webhook(number: str, who: Admin, through: Through) -> dict[str, Any]:
    """Send one event of type `webhooks.tried.v1` now, and tell what the other side answered."""
    hook = await through.webhooks.get(number, who.administers)
    await through.webhooks.require_held(hook.id)
    log.info("audit.webhook_tried", by=who.name, webhook=hook.id)
    async with through.sender.client() as client:
        outcome = await through.sender.send(client, hook.id, hook.url, told(trial(hook, datetime.now(UTC))))
    return {"taken": outcome.error is None, **asdict(outcome)}


@router.get("/{number}/failures")
async def list_failures(
    number: str,
    who: Admin,
    through: Through,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """Return the facts that a webhook did not take, oldest first."""
    hook = await through.webhooks.get(number, who.administers)
    return [asdict(one) for one in await through.webhooks.failures(hook.id, after, limit)]


@router.post("/{number}/retry", status_code=202)
async def retry_webhook(number: str, who: Admin, through: Through) -> dict[str, Any]:
    """Send what was not taken once more, and go on with a webhook that was given up, unless its token has ended."""
    hook = await through.webhooks.get(number, who.administers)
    again = await through.webhooks.retry(hook.id)
    log.info("audit.webhook_retried", by=who.name, webhook=hook.id, facts=again)
    return {"facts": again}
