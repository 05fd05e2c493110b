"""Digests as a person and as a program read them."""

from collections.abc import Iterable
from typing import Any

from services.cli.core.address import Address
from services.cli.core.digests import DONE, FAILED, PENDING, SHOWN, Verdict
from services.cli.core.text import human_bytes
from services.cli.terminal import say
from shared.text import visible

STYLES = {"succeeded": "green", "failed": "bold red", "pending": "yellow", "running": "yellow"}


def show_verdict(address: Address, verdict: Verdict) -> None:
    """Print an object's digests, one a line; a mismatch is not to be overlooked."""
    size = verdict.row.get("size")
    say(f"{address}" + (f"  {human_bytes(size)}" if isinstance(size, int) else ""), style="bold")
    if verdict.status == "succeeded":
        for name, text in (verdict.row.get("digests") or {}).items():
            say(f"  {name:<8} {text}")
    else:
        why = verdict.row.get("error") or verdict.remark
        say(f"  {verdict.status}" + (f": {why}" if why else ""), style=STYLES.get(verdict.status, "yellow"))
    if verdict.row.get("verification") == "mismatch":
        say("  MISMATCH: these are not the bytes the uploader declared", style="bold white on red")
    elif verdict.row.get("verification"):
        say(f"  {verdict.row['verification']}", style="green")
    if verdict.status == "succeeded" and verdict.remark:
        say(f"  {verdict.remark}", style="yellow")


def verdict_document(address: Address, verdict: Verdict) -> dict[str, Any]:
    """Return an object's digests for a program: the row of `api.digests` with the status that holds now."""
    row = {name: verdict.row.get(name) for name in SHOWN}
    now = {
        "bucket": address.bucket,
        "key": address.key,
        "status": verdict.status,
        "remark": visible(verdict.remark) or None,
    }
    return row | now | ({"digests": {}} if verdict.status != "succeeded" else {})


def worst(verdicts: Iterable[Verdict]) -> int:
    """Return the exit code of several objects: failed before pending before done."""
    codes = {verdict.code for verdict in verdicts}
    if codes <= {DONE}:
        return DONE
    return PENDING if codes <= {DONE, PENDING} else FAILED
