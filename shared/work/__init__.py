"""Long work as leased rows in Postgres: a handler adds an item and acks, workers claim it with a lease.

A lease is kept by heartbeats. When its worker dies the row is claimed by another, with a new fencing token,
and whatever the first one still writes is refused with LeaseLost. Times are the database's; a worker's clock
is never asked.
"""

from shared.work.queue import Item, LeaseLost, WorkQueue
from shared.work.retries import RetryPolicy
from shared.work.worker import Lease, Worker

MIGRATIONS = "shared.migrations.work"
"""What `migrate(dsn, "work", MIGRATIONS)` applies."""

__all__ = ["MIGRATIONS", "Item", "Lease", "LeaseLost", "RetryPolicy", "WorkQueue", "Worker"]
