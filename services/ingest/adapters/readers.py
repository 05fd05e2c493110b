"""Enforce the limits on sessions of `penstock_reader`, the database role of read-only tools."""

from shared.postgres import Pool


async def end_overdue(pool: Pool) -> int:
    """End the sessions of `penstock_reader` that exceed its limits; return how many, or 0 if set-up made no limits."""
    if not await pool.fetchval("SELECT to_regprocedure('limits.end_overdue_readers()') IS NOT NULL"):
        return 0
    ended: int = await pool.fetchval("SELECT limits.end_overdue_readers()")
    return ended
