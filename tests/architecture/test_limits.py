"""The limits in docs/ingress.md are those of the code, every pool included."""

import re
from pathlib import Path

import pytest

from services.ingress.adapters import bodies, fact_table, http_connections, tus, webhook_table
from services.ingress.adapters.limiter import PermitPool, Shares
from services.ingress.adapters.permit_pools import pools
from services.ingress.core import fact_filter, quotas, rate_limiter
from services.ingress.core.tus import MAX_CHECKED_BYTES, MAX_METADATA_BYTES
from services.ingress.routes import digests, forms, found, json_route, login, presigned
from services.ingress.routes.json_route import JsonRoute
from services.ingress.settings import IngressSettings
from services.ingress.workers import MAX_CONCURRENT, MAX_RUN_SECONDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/ingress.md").read_text().partition("## Limits")[2].partition("\n## ")[0]
SETTINGS = IngressSettings()
KIB, MIB = 1 << 10, 1 << 20
BOUNDS = {
    "address and headers of a request": http_connections.MAX_HEAD_BYTES,
    "address": http_connections.MAX_ADDRESS_BYTES,
    "parameters in an address": http_connections.MAX_PARAMETERS,
    "pipelined requests on one connection": http_connections.MAX_PIPELINED,
    "JSON body": json_route.MAX_JSON_BYTES,
    "plain field of a form": bodies.MAX_FIELD_BYTES,
    "all plain fields of a form": bodies.MAX_FIELDS_BYTES,
    "the names of all files of a form": bodies.MAX_NAMES_BYTES,
    "fields and files of a form (`PENSTOCK_MAX_FORM_PARTS`)": SETTINGS.max_form_parts,
    "form of a page": forms.MAX_FORM_BYTES,
    "login form": login.MAX_FORM_BYTES,
    "body of a `/gethash` request": digests.MAX_QUESTION_BYTES,
    "tus request with a checksum": MAX_CHECKED_BYTES,
    "Upload-Metadata": MAX_METADATA_BYTES,
    "types of a stream or a webhook": fact_filter.MAX_TYPES,
    "bodies of facts read at a time for streams": fact_table.PAGE_BYTES,
    "bodies of facts in one answer of a timeline": fact_table.TIMELINE_BYTES,
    "facts in one answer of a webhook's failures": webhook_table.FAILURES_BYTES,
    "part numbers signed at a time": presigned.PartNumbers.model_json_schema()["properties"]["numbers"]["maxItems"],
    "valid tokens created by one token": quotas.MAX_TOKENS,
    "webhooks of one token": quotas.MAX_WEBHOOKS,
    "open tus uploads of one token": quotas.MAX_OPEN_UPLOADS,
    "open multipart uploads of one token": quotas.MAX_OPEN_UPLOADS,
    "unused login links of one token": quotas.MAX_LINKS,
    "clients in the rate limiter's memory": rate_limiter.MAX_BUCKETS,
    "finished tus uploads in memory": tus.MAX_REMEMBERED,
}


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the table whose first column is called so."""
    table = re.search(rf"^\| {heading} \|.*\n\|---.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table is not None, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def number(text: str) -> int:
    value, _, unit = text.partition(" ")
    return int(value) * {"KiB": KIB, "MiB": MIB, "": 1}[unit]


def alone(pool: PermitPool) -> int:
    """Return how many permits a client gets without competitors."""
    shares = Shares(pool.permits)
    while shares.allows("a"):
        shares.acquire("a")
    return shares.held_by("a")


def test_docs_list_every_pool_with_its_share() -> None:
    listed = {row[0]: row[1:] for row in rows("Pool")}
    assert listed == {
        name: [
            str(pool.permits),
            str(alone(pool)),
            f"{pool.seconds:g} s",
            f"`{pool.setting}`" if pool.setting else "",
        ]
        for name, pool in pools(SETTINGS).items()
    }


def test_docs_list_every_bound() -> None:
    assert {row[0]: number(row[1]) for row in rows("What")} == BOUNDS


@pytest.mark.parametrize(
    "text",
    [
        f"(`PENSTOCK_MIN_RATE_GRACE_SECONDS` ({SETTINGS.min_rate_grace_seconds:g})"[1:],
        f"`PENSTOCK_MIN_RATE_BYTES` a second ({SETTINGS.min_rate_bytes:,})",
        f"delivered {MAX_CONCURRENT} at a time",
        f"each has {MAX_RUN_SECONDS:g} s",
    ],
)
def test_docs_state_the_other_figures(text: str) -> None:
    assert text in PAGE.replace("\n", " ")


def test_every_route_that_takes_json_bounds_it() -> None:
    taking = [one for router in found() for one in router.routes if getattr(one, "body_field", None) is not None]
    assert len(taking) >= 4
    assert [one for one in taking if not isinstance(one, JsonRoute)] == []
