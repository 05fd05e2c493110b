"""What a queue hands out: claimed items, and the state of any item."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from shared.errors import PenstockError

State = Literal["pending", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Item:
    """A claimed item; `token` is its fencing token, `attempt` counts from 1.

    `progress` is the last one that an earlier holder stored. An item with `cancel_requested` is claimed only to
    confirm that it is cancelled.
    """

    queue: str
    key: str
    payload: dict[str, Any]
    attempt: int
    token: int
    correlation_id: str
    progress: dict[str, Any] | None = None
    group: str = ""
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class ItemState:
    """The stored state of an item; times are UTC, by the database's clock."""

    state: State
    attempt: int
    progress: dict[str, Any] | None
    error: str | None
    cancel_requested: bool
    not_before: datetime
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class LeaseLost(PenstockError):  # noqa: N818 - what happened, as everywhere here
    """Another worker has claimed or finished the item, so writes of its former holder are refused."""

    def __init__(self, item: Item) -> None:
        super().__init__(f"lease {item.token} on {item.queue} {item.key} was lost: another worker has the item")
        self.item = item


class WorkCancelled(PenstockError):  # noqa: N818 - what happened, as everywhere here
    """The item was cancelled while it was running or after it had begun."""

    def __init__(self, item: Item) -> None:
        super().__init__(f"{item.queue} {item.key} was cancelled: add it again to start over")
        self.item = item
