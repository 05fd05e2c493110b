"""Digests on the terminal and as JSON."""

from collections.abc import Iterable
from typing import Any

from services.cli.core.address import Address
from services.cli.core.digests import DONE, FAILED, FIELDS, PENDING, DigestState
from services.cli.core.text import human_bytes
from services.cli.terminal import say
from shared.text import visible

STYLES = {"succeeded": "green", "failed": "bold red", "pending": "yellow", "running": "yellow"}


def show_digests(address: Address, state: DigestState) -> None:
    """Print an object's digests, one per line, and a mismatch with the declared digest in red."""
    size = state.row.get("size")
    say(f"{address}" + (f"  {human_bytes(size)}" if isinstance(size, int) else ""), style="bold")
    if state.status == "succeeded":
        for name, text in (state.row.get("digests") or {}).items():
            say(f"  {name:<8} {text}")
    else:
        reason = state.row.get("error") or state.remark
        say(f"  {state.status}" + (f": {reason}" if reason else ""), style=STYLES.get(state.status, "yellow"))
    if state.row.get("verification") == "mismatch":
        say("  MISMATCH: the stored bytes differ from the digest that the uploader declared", style="bold white on red")
    elif state.row.get("verification"):
        say(f"  {state.row['verification']}", style="green")
    if state.status == "succeeded" and state.remark:
        say(f"  {state.remark}", style="yellow")


def digests_document(address: Address, state: DigestState) -> dict[str, Any]:
    """Return the JSON document: the row of `api.digests` with the current status."""
    row = {name: state.row.get(name) for name in FIELDS}
    current = {
        "bucket": address.bucket,
        "key": address.key,
        "status": state.status,
        "remark": visible(state.remark) or None,
    }
    return row | current | ({"digests": {}} if state.status != "succeeded" else {})


def combined_exit_code(states: Iterable[DigestState]) -> int:
    """Return the exit code for several objects: FAILED if any failed or is unknown, else PENDING if any is pending."""
    codes = {state.exit_code for state in states}
    if codes <= {DONE}:
        return DONE
    return PENDING if codes <= {DONE, PENDING} else FAILED
