"""Consumer lag and counts of dead letters, queried from the broker."""

from services import catalogue
from services.cli.adapters import kafka
from services.cli.adapters.dead_letters import dead_letter_topics, resolved_positions
from services.cli.core.lag import count_unresolved
from services.cli.settings import CliSettings
from shared.lags import first_and_end_offsets, lag_of_groups, partition_counts, topic_partitions


async def lag(settings: CliSettings) -> dict[str, dict[str, int]]:
    """Return the lag in records of each consumer group, by topic."""
    async with kafka.open_admin(settings) as admin, kafka.open_reader(settings) as reader:
        lags, _ = await lag_of_groups(admin, reader, catalogue.manifests().consumers)
    return lags


async def dead_letters(settings: CliSettings) -> dict[str, int]:
    """Return the number of unresolved dead letters, by topic."""
    async with kafka.open_admin(settings) as admin, kafka.open_reader(settings) as reader:
        names = await dead_letter_topics(admin)
        resolved = await resolved_positions(settings, reader)
        starts, ends = await first_and_end_offsets(
            reader, topic_partitions(names, await partition_counts(admin, names))
        )
        return count_unresolved(((one.topic, one.partition, one.offset) for one in resolved), starts, ends)
