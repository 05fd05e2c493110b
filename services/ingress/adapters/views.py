"""What the other services have recorded: the views of schema `api`, read and never written."""

from shared.postgres import Pool


class Views:
    """Questions to the views; every method raises an outage while Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
