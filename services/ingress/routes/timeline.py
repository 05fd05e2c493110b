"""The timeline of an object: its facts in order, and its present state."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from services.ingress.core.fact_rendering import render_fact
from services.ingress.routes.auth_dependencies import Deps, Reader
from shared.errors import Rejected

router = APIRouter(tags=["facts"])


@router.get("/timeline/{bucket}/{key:path}")
async def timeline(  # noqa: PLR0913, PLR0917 - path and query parameters
    bucket: Annotated[str, Path(max_length=63)],
    key: Annotated[str, Path(max_length=4096)],
    principal: Reader,
    deps: Deps,
    after: Annotated[int, Query(ge=0, le=2**62, description="The `next` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Return the facts about an object, oldest first; `next` is null on the last page."""
    if "\x00" in bucket + key or not principal.sees(bucket, key):
        raise _unknown(bucket)
    facts, has_more = await deps.facts.about(bucket, key, after, limit)
    state = await deps.facts.state(bucket, key)
    if not (facts or after or any(state.values())):
        raise _unknown(bucket)
    return {
        "bucket": bucket,
        "key": key,
        "object": next(iter(state["object"]), None),
        "digests": state["digests"],
        "work": state["work"],
        "facts": [render_fact(fact) for fact in facts],
        "next": facts[-1].seq if has_more else None,
    }


def _unknown(bucket: str) -> Rejected:
    return Rejected("NO_SUCH_OBJECT", f"nothing is known of this object of {bucket[:63]!r}: check its name")
