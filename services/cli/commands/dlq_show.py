"""`penstock dlq show`: one dead letter."""

from services.cli.adapters import kafka
from services.cli.adapters.dead_letters import find_dead_letter, resolved_positions
from services.cli.commands.dlq_resolve import DeadLetterId
from services.cli.core.dead_letters import DeadLetter, RecordPosition, format_body, full_document
from services.cli.settings import load
from services.cli.terminal import Json, print_json, say
from shared.errors import Rejected

HEADER_WIDTH = 400


async def show_dead_letters(dead_letter_id: DeadLetterId, *, json: Json = False) -> int:
    """Show one dead letter: why it was dead-lettered, its headers and its body.

    For example:
        penstock dlq show objects.changed.v1.hasher.dlq/0/17
        penstock dlq show minio.live.ingest.dlq/0/3 --json | jq -r .body

    Parameters
    ----------
    dead_letter_id:
        topic/partition/offset, as `penstock dlq list` prints it.

    """
    settings = load()
    position = RecordPosition.parse(dead_letter_id)
    async with kafka.open_reader(settings) as reader:
        found = await find_dead_letter(settings, reader, position)
        resolved = position in await resolved_positions(settings, reader)
    if found is None:
        reason = f"dlq: there is no dead letter {position}, or its retention is over: see penstock dlq list --each"
        raise Rejected("NO_SUCH_DEAD_LETTER", reason)
    if json:
        # `settled` is the former name of `resolved`
        print_json(full_document(found) | {"resolved": resolved, "settled": resolved})
    else:
        _show(found, resolved=resolved)
    return 0


def _show(dead_letter: DeadLetter, *, resolved: bool) -> None:
    say(f"{dead_letter.position}" + ("  (resolved)" if resolved else ""), style="bold")
    say(f"{dead_letter.header('service')}: {dead_letter.header('code')}: {dead_letter.header('reason')}", style="red")
    origin = "/".join(dead_letter.header(name) for name in ("topic", "partition", "offset"))
    say(f"from {origin}, at {dead_letter.header('at')}, attempt {dead_letter.attempts}")
    say("key", style="dim")
    say(f"  {(dead_letter.key or b'').decode('utf-8', 'backslashreplace')}")
    say("headers", style="dim")
    for name, value in dead_letter.headers:
        if not name.startswith("dlq_"):
            say(f"  {name}: {value.decode('utf-8', 'backslashreplace')[:HEADER_WIDTH]}")
    say("body", style="dim")
    for line in format_body(dead_letter.body).split("\n"):
        say(f"  {line}")
