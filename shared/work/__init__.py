"""Long work as leased rows in Postgres: a handler adds an item and acks, workers claim it with a lease.

Heartbeats extend a lease. If its worker dies, another claims the row with a new fencing token, and later writes of the
first one raise LeaseLost. All times are the database's, never a worker's.
"""

from shared.work.item import Item, ItemState, LeaseLost, State, WorkCancelled
from shared.work.lease import Lease
from shared.work.queue import WorkQueue
from shared.work.retries import RetryPolicy
from shared.work.worker import Worker

MIGRATIONS = "shared.migrations.work"
"""The package for `migrate(dsn, "work", MIGRATIONS)`."""

__all__ = [
    "MIGRATIONS",
    "Item",
    "ItemState",
    "Lease",
    "LeaseLost",
    "RetryPolicy",
    "State",
    "WorkCancelled",
    "WorkQueue",
    "Worker",
]
