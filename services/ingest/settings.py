"""Settings of ingest."""

from pydantic import Field

from shared.settings import Settings


class IngestSettings(Settings):
    """What ingest needs beyond the stack."""

    health_port: int = Field(8081, description="Port of probes and metrics; 0 takes a free one.")
    sweep_interval: float = Field(
        900.0,
        ge=0,
        description="Seconds between sweeps, beside one after each outage of the store; 0: neither.",
    )
    sweep_at_start: bool = Field(default=True, description="Compare buckets with memory once at every start.")
    sweep_grace: float = Field(
        10.0, ge=0, description="Seconds for which a scheduled sweep leaves an object to its notification."
    )
    doubt_seconds: float = Field(
        15.0,
        gt=0,
        description="Seconds in which the removal of an object that is not there may still be notified.",
    )
    ingest_trust_notifications: bool = Field(
        default=False,
        description="Take size, etag and metadata from notifications: only where nobody else can write their topics.",
    )
    lookups_in_flight: int = Field(64, gt=0, description="Questions to the bucket at a time.")
