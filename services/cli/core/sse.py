"""Server-sent events, parsed line by line (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream."""

    id: str
    type: str
    data: str


class EventReader:
    """Parses the lines of a stream into events; ignores comments and unknown fields."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        """The `Last-Event-ID` to resume with after a disconnect."""
        self._id = last_id
        self._type = ""
        self._data: list[str] = []

    def read(self, line: str) -> ServerEvent | None:
        """Parse one line, without its end; return the event that it completes."""
        if not line:
            return self._complete()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            self._id = value
        elif field == "event":
            self._type = value
        elif field == "data":
            self._data.append(value)
        return None

    def _complete(self) -> ServerEvent | None:
        self.last_id = self._id
        event = ServerEvent(self._id, self._type, "\n".join(self._data)) if self._data else None
        self._type, self._data = "", []
        return event
