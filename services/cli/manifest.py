"""What the operator's console publishes."""

from typing import Final

from shared.events import DeadLetterSettled, EtlRequested, SweepRequested
from shared.manifest import Manifest

MANIFEST: Final = Manifest(
    name="cli",
    is_operator=True,
    publishes=(SweepRequested, EtlRequested, DeadLetterSettled),
    stores="nothing",
)
