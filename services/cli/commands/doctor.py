"""`penstock doctor`: check the stack, and name the fix of each fault."""

from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from services.cli.adapters import checks, probes
from services.cli.adapters.checks import Check
from services.cli.adapters.errors import translate_errors
from services.cli.adapters.set_up import set_up
from services.cli.core.findings import Finding
from services.cli.core.text import plural
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, console, note, print_json, say, spinner
from shared.concurrency import map_concurrently
from shared.errors import PenstockError
from shared.text import visible

CHECKS: dict[str, Check] = {
    "ports": checks.ports,
    "versions": checks.versions,
    "kafka": checks.broker,
    "object store": checks.object_store,
    "topics": checks.topics,
    "buckets": checks.buckets,
    "notification rules": checks.rules,
    "S3 users": checks.users,
    "Kafka users": checks.kafka_users,
    "database role": checks.reader,
    "database roles": checks.roles,
    "clocks": checks.clocks,
    "disk": checks.disk,
    "processes": probes.health,
}
MAX_CONCURRENT = 3
"""Checks at a time: on a busy machine, the CPU time of those beside it uses up the time limit of each."""


async def doctor(
    *,
    fix: bool = False,
    probe: Annotated[bool, Parameter(negative="--no-probe")] = True,
    json: Json = False,
) -> int:
    """Check the whole stack, and send one probe object through it.

    Checks versions, ports, topics, buckets, notification rules, users, clocks, disk
    and processes; names the fix of each fault. Exit code 1 if there is a fault.

    For example:
        penstock doctor
        penstock doctor --fix
        penstock doctor --no-probe --json | jq '.findings[] | select(.ok | not)'

    Parameters
    ----------
    fix:
        First create what is missing: topics, buckets, users, database roles, tables and notification rules.
    probe:
        Store a small object below .penstock/ in the first input bucket, wait for its digest and remove it.

    """
    settings = load()
    changed = await _fix(settings, show=not json) if fix else []
    with spinner("checking"):
        results = await map_concurrently(lambda one: checks.run(*one, settings), CHECKS.items(), limit=MAX_CONCURRENT)
        # not concurrently with the checks, because it measures time
        results += [await checks.run("round trip", probes.round_trip, settings)] if probe else []
    findings = [one for result in results for one in result]
    ok = all(one.ok for one in findings)
    if json:
        print_json({"ok": ok, "changed": changed, "findings": [one.document() for one in findings]})
    else:
        _show(findings)
    return 0 if ok else 1


async def _fix(settings: CliSettings, *, show: bool) -> list[str]:
    """Create what is missing; return the changes. After a failure the checks still run and name its cause."""
    try:
        with translate_errors("fixing"):
            changed = await set_up(settings)
    except PenstockError as error:
        note(f"penstock: doctor: {error}", style="red")
        return []
    if show:
        for line in changed:
            say(f"fixed: {line}", style="green")
    return changed


def _show(findings: list[Finding]) -> None:
    width = max(len(one.name) for one in findings)
    for one in findings:
        mark, style = ("✓", "green") if one.ok else ("✗", "bold red")
        console().print(
            Text.assemble((f"{mark} ", style), f"{one.name:<{width}}  ", (visible(one.detail), "dim" if one.ok else ""))
        )
        if not one.ok and one.fix:
            say(f"  {'':<{width}}  fix: {one.fix}", style="yellow")
    faults = sum(not one.ok for one in findings)
    say(plural(faults, "fault") if faults else "no faults", style="bold red" if faults else "bold green")
