"""Settings of the ingest service."""

from pydantic import Field

from shared.settings import Settings


class IngestSettings(Settings):
    """Settings of ingest."""

    health_port: int = Field(8081, description="Port of probes and metrics; 0 takes a free one.")
    sweep_interval: float = Field(
        900.0,
        ge=0,
        description="Seconds between sweeps, besides one after each outage of the store; 0 disables both.",
    )
    sweep_at_start: bool = Field(default=True, description="Sweep the buckets once at every start.")
    sweep_grace: float = Field(
        10.0,
        ge=0,
        description="Seconds for which a scheduled sweep skips a new object, whose notification may still arrive.",
    )
    doubt_seconds: float = Field(
        15.0,
        gt=0,
        description="Seconds to wait for the removal notification of an object that is announced but missing.",
    )
    ingest_trust_notifications: bool = Field(
        default=False,
        description="Take size, etag and metadata from notifications; safe only if no others can write their topics.",
    )
    lookups_in_flight: int = Field(64, gt=0, description="Concurrent requests to the object store.")
