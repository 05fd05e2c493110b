"""A client of server-sent events, in a thread."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import httpx


@dataclass
class Stream:
    """What came: events as dictionaries, and `last_id`, from which another stream goes on."""

    events: list[dict[str, Any]] = field(default_factory=list)
    last_id: str = ""
    lines: int = 0
    status: int = 0
    is_over: bool = False

    def keys(self, prefix: str) -> list[tuple[str, str]]:
        """Return type and key of every event under `prefix`."""
        return [
            (one["type"], one["key"].removeprefix(prefix))
            for one in self.events
            if (one["key"] or "").startswith(prefix)
        ]

    def follow(self, client: httpx.Client, headers: dict[str, str], **query: Any) -> None:
        with suppress(httpx.HTTPError), client.stream("GET", "/events", headers=headers, params=query) as answer:
            self.status = answer.status_code
            for line in answer.iter_lines():
                self.lines += 1
                name, _, value = line.partition(": ")
                if name == "id":
                    self.last_id = value
                elif name == "data":
                    self.events.append(json.loads(value))
        self.is_over = True


@contextmanager
def following(client: httpx.Client, *, after: str = "", **query: Any) -> Iterator[Stream]:
    """Follow the events inside the block; the client is closed at its end."""
    stream = Stream()
    headers = {"last-event-id": after} if after else {}
    thread = Thread(target=stream.follow, args=(client, headers), kwargs=query)
    thread.start()
    try:
        yield stream
    finally:
        client.close()
        thread.join(30)
