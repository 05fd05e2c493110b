"""Counts of database rows in their JSON form."""

from collections.abc import Mapping
from typing import Any


def add_totals(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return counts by bucket or queue, and their totals."""
    digests, objects, work = counts["digests"], counts["objects"], counts["work"]
    pending = [row["oldest_seconds"] for row in digests if row["status"] in {"pending", "running"}]
    by_status: dict[str, int] = {}
    for row in digests:
        by_status[row["status"]] = by_status.get(row["status"], 0) + row["versions"]
    return {
        "digests": {
            "by_status": by_status,
            "bytes": sum(row["bytes"] for row in digests),
            "oldest_pending_seconds": max(pending, default=None),
            "by_bucket": [_without(row, "oldest_seconds") for row in digests],
        },
        "objects": {
            "known": sum(row["objects"] for row in objects if row["state"] == "stored"),
            "bytes": sum(row["bytes"] for row in objects if row["state"] == "stored"),
            "by_bucket": objects,
        },
        "work": work,
        "tables": counts["tables"],
        "datasets": counts.get("datasets", []),
        "last_sweep": counts["last_sweep"],
    }


def _without(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}
