"""What becomes of an item whose handler failed: an error in, a decision out."""

from dataclasses import dataclass

from shared.errors import Kind, kind_of


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often an item is tried, and how long the waits are, in seconds.

    An outage is retried without end and without counting as an attempt. A worker retries it in place for
    `outage_seconds`, with waits of up to `outage_wait_max`. If the item then still fails although the servers serve
    others, the worker gives it back, to be claimed again after a wait that doubles up to `wait_max`: no item blocks
    its queue. `max_attempts` bounds errors of unregistered types. `max_claims` bounds attempts of every kind, so that
    an item that kills its workers fails in the end.
    """

    max_attempts: int = 5
    wait_initial: float = 1.0
    wait_max: float = 300.0
    outage_wait_max: float = 5.0
    outage_seconds: float = 30.0
    max_claims: int = 25

    def retry_in(self, error: BaseException, attempt: int) -> float | None:
        """Return the wait after attempt `attempt` (from 1) ended with `error`; None: failed for good."""
        if kind_of(error) is Kind.REJECTED or attempt >= self.max_attempts:
            return None
        return min(self.wait_initial * 2.0 ** (attempt - 1), self.wait_max)

    def outage_wait(self, times: int) -> float:
        """Return the wait of an item that was given back for an outage `times` times in a row."""
        return min(self.outage_wait_max * 2.0 ** min(times, 30), self.wait_max)

    def attempts_exhausted(self, attempt: int) -> bool:
        """Tell whether an item has been claimed so often that its workers must have died of it."""
        return attempt > self.max_claims
