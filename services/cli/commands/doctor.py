"""`penstock doctor`: is all well, and if not, what mends it."""

import asyncio
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from services.cli.adapters import checks, probes
from services.cli.adapters.checks import Check
from services.cli.adapters.set_up import set_up
from services.cli.adapters.trouble import reaching
from services.cli.core.findings import Finding
from services.cli.core.text import plural
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, console, emit, note, say, spinner
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


async def doctor(
    *,
    fix: bool = False,
    probe: Annotated[bool, Parameter(negative="--no-probe")] = True,
    json: Json = False,
) -> int:
    """Check the whole stack and send one object all the way through it.

    Versions, ports, topics, buckets, notification rules, users, clocks, disk and
    processes; every fault is named with its mend. Exit code 1 when there is one.

    For example:
        penstock doctor
        penstock doctor --fix
        penstock doctor --no-probe --json | jq '.findings[] | select(.ok | not)'

    Parameters
    ----------
    fix:
        Make what is missing first: topics, buckets, users, database roles, tables and notification rules.
    probe:
        Store a small object under .penstock/ of the first input bucket, wait for its digest and remove it.

    """
    settings = load()
    changed = await _mend(settings, tell=not json) if fix else []
    with spinner("checking"):
        found = await asyncio.gather(*(checks.run(name, check, settings) for name, check in CHECKS.items()))
        # alone, since its time is told
        found += [await checks.run("round trip", probes.round_trip, settings)] if probe else []
    findings = [one for part in found for one in part]
    well = all(one.ok for one in findings)
    if json:
        emit({"ok": well, "changed": changed, "findings": [one.document() for one in findings]})
    else:
        _show(findings)
    return 0 if well else 1


async def _mend(settings: CliSettings, *, tell: bool) -> list[str]:
    """Make what is missing; when that fails, the checks tell what stands in the way."""
    try:
        with reaching("mending"):
            changed = await set_up(settings)
    except PenstockError as error:
        note(f"penstock: doctor: {error}", style="red")
        return []
    if tell:
        for line in changed:
            say(f"mended: {line}", style="green")
    return changed


def _show(findings: list[Finding]) -> None:
    width = max(len(one.name) for one in findings)
    for one in findings:
        mark, style = ("✓", "green") if one.ok else ("✗", "bold red")
        console().print(
            Text.assemble((f"{mark} ", style), f"{one.name:<{width}}  ", (visible(one.detail), "dim" if one.ok else ""))
        )
        if not one.ok and one.fix:
            say(f"  {'':<{width}}  mend: {one.fix}", style="yellow")
    faults = sum(not one.ok for one in findings)
    say(plural(faults, "fault") if faults else "all is well", style="bold red" if faults else "bold green")
