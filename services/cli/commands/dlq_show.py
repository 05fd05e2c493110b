"""`penstock dlq show`: one dead letter."""

from services.cli.adapters import kafka
from services.cli.adapters.letters import letter_at, settled_places
from services.cli.core.letters import Letter, Place, body_for_people, full_document
from services.cli.settings import load
from services.cli.terminal import Json, emit, say
from shared.errors import Rejected

HEADER_WIDTH = 400


async def show_letters(letter: str, *, json: Json = False) -> int:
    """Show one dead letter: why it is here, its headers and its body.

    For example:
        penstock dlq show objects.changed.v1.hasher.dlq/0/17
        penstock dlq show minio.live.ingest.dlq/0/3 --json | jq -r .body

    Parameters
    ----------
    letter:
        Its name, topic/partition/offset, as `penstock dlq list` gives it.

    """
    settings = load()
    place = Place.parse(letter)
    async with kafka.open_reader(settings) as reader:
        found = await letter_at(settings, reader, place)
        settled = place in await settled_places(settings, reader)
    if found is None:
        raise Rejected("NO_SUCH_LETTER", f"dlq: {place} is not there (any more); see penstock dlq list --each")
    emit(full_document(found) | {"settled": settled}) if json else _show(found, settled=settled)
    return 0


def _show(letter: Letter, *, settled: bool) -> None:
    say(f"{letter.place}" + ("  (settled)" if settled else ""), style="bold")
    say(f"{letter.told('service')}: {letter.told('code')}: {letter.told('reason')}", style="red")
    origin = "/".join(letter.told(name) for name in ("topic", "partition", "offset"))
    say(f"from {origin}, at {letter.told('at')}, attempt {letter.attempts}")
    say("key", style="dim")
    say(f"  {(letter.key or b'').decode('utf-8', 'backslashreplace')}")
    say("headers", style="dim")
    for name, value in letter.headers:
        if not name.startswith("dlq_"):
            say(f"  {name}: {value.decode('utf-8', 'backslashreplace')[:HEADER_WIDTH]}")
    say("body", style="dim")
    for line in body_for_people(letter.body).split("\n"):
        say(f"  {line}")
