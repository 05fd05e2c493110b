"""Where readers stand and what waits in the dead letters, asked of the broker."""

from services import catalogue
from services.cli.adapters import kafka
from services.cli.adapters.letters import settled_places, topics_of
from services.cli.core.lag import unsettled
from services.cli.settings import CliSettings
from shared.lags import first_and_end_offsets, lag_of_groups, partition_counts, topic_partitions


async def lag(settings: CliSettings) -> dict[str, dict[str, int]]:
    """Return the records each consumer group has still to read, by topic."""
    async with kafka.open_admin(settings) as admin, kafka.open_reader(settings) as reader:
        lags, _ = await lag_of_groups(admin, reader, catalogue.manifests().consumers)
    return lags


async def dead_letters(settings: CliSettings) -> dict[str, int]:
    """Return how many dead letters wait, by topic."""
    async with kafka.open_admin(settings) as admin, kafka.open_reader(settings) as reader:
        names = await topics_of(admin)
        settled = await settled_places(settings, reader)
        starts, ends = await first_and_end_offsets(
            reader, topic_partitions(names, await partition_counts(admin, names))
        )
        return unsettled(((one.topic, one.partition, one.offset) for one in settled), starts, ends)
