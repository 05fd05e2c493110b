"""Workers that a test may kill: `worker_process.py DSN QUEUE WORKERS LEASE_SECONDS WORK_SECONDS`."""

import asyncio
import sys

from pydantic import SecretStr

from shared.postgres import Pool, open_pool
from shared.work import Lease, RetryPolicy, Worker, WorkQueue


async def main(dsn: str, name: str, workers: int, lease_seconds: float, work_seconds: float) -> None:
    async with open_pool(SecretStr(dsn), service="test", max_size=4 * workers) as pool:
        queue = WorkQueue(pool, name, lease_seconds=lease_seconds)

        async def handle(lease: Lease) -> None:
            await asyncio.sleep(work_seconds)
            await record_effect(pool, queue, lease)

        await asyncio.gather(
            *(Worker(queue, handle, concurrency=1, retries=RetryPolicy()).run() for _ in range(workers))
        )


async def record_effect(pool: Pool, queue: WorkQueue, lease: Lease) -> None:
    """Do what must happen once, with the completion; nothing else keeps it from repeating."""
    async with pool.acquire() as connection, connection.transaction():
        await queue.complete(lease.item, connection=connection)
        await connection.execute(
            "insert into work_test.effects (queue, key, attempt) values ($1, $2, $3)",
            lease.item.queue,
            lease.item.key,
            lease.item.attempt,
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])))
