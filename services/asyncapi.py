"""The AsyncAPI document of all services: `python -m services.asyncapi` writes it, `--check` compares it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from faststream.specification import AsyncAPI

from services import catalogue
from services.generated import write_or_check
from shared.bus import Broker
from shared.service import VERSION

DOCUMENT: Final = Path(__file__).parents[1] / "deploy" / "asyncapi.yaml"
SERVER: Final = "kafka.example:9092"
_BATCH: Final = ":Message:Payload"


def document() -> str:
    """Return the document as YAML: the same code gives the same text, whatever the environment says."""
    api = AsyncAPI(
        *map(subscribed_broker, catalogue.names()),
        title="Penstock",
        version=VERSION,
        description="The facts and requests on the bus: CloudEvents 1.0 in Kafka's binary mode, JSON bodies.",
    )
    found: dict[str, Any] = api.to_specification().to_jsonable()
    _one_event_a_record(found["components"])
    _sort(found)
    text: str = yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=120)
    return text


def subscribed_broker(name: str) -> Broker:
    """Return the broker of a service with its handlers subscribed but bound to nothing, so they cannot be called."""
    service = catalogue.build(name, kafka_bootstrap=SERVER, kafka_user="", kafka_tls=False)
    service.router.attach(service.broker, **dict.fromkeys(service.router.arguments()))
    return service.broker


def _one_event_a_record(components: dict[str, Any]) -> None:
    """Show what a record holds; that handlers take records in batches is no business of the wire."""
    items = {
        f"#/components/schemas/{name.replace('+', '%2B')}": components["schemas"].pop(name)["items"]
        for name in list(components["schemas"])
        if name.endswith(_BATCH)
    }
    for message in components["messages"].values():
        message["payload"] = dict(items.get(message["payload"]["$ref"], message["payload"]))


def _sort(found: dict[str, Any]) -> None:
    """Put entries in the order of their names; a broker gives its subscribers in any."""
    for holder in (found, found["components"]):
        for name in holder.keys() & {"channels", "operations", "messages", "schemas"}:
            holder[name] = dict(sorted(holder[name].items()))


def main(arguments: Sequence[str]) -> int:
    """Write the document, or with `--check` only compare it; return the exit code, 1 for a stale one."""
    return write_or_check(DOCUMENT, document(), "python -m services.asyncapi", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
