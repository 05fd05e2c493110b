"""Settings of etl."""

from pathlib import Path

from pydantic import Field, field_validator

from services.etl.core.schedules import Interval
from shared.settings import Settings


class EtlSettings(Settings):
    """Settings of etl; the name in brackets is that of the users ETL it replaces."""

    health_port: int = Field(8084, description="Port of probes and metrics; 0 takes a free one.")
    etl_datasets: Path = Field(
        Path(__file__).with_name("datasets.toml"),
        description="TOML file that declares which files become which tables.",
    )
    etl_interval: str = Field(
        "25m",
        description="How often each bucket is compared with its table (ETL_INTERVAL): 25m, 90s, 2h, a cron expression "
        "in UTC, or 0: only at start and on request.",
    )
    etl_seed: bool = Field(
        default=False, description="Seed the bucket of the dataset users with 100 made-up users, once, if it is empty."
    )
    etl_output_bucket: str = Field("processed-data", description="Bucket for the files of tables and rejected rows.")
    etl_debounce_seconds: float = Field(
        1.0, ge=0, description="Seconds without changes before the files of a dataset are written."
    )
    etl_debounce_most_seconds: float = Field(
        3.0, ge=0, description="Maximum seconds until the files of a dataset are written while it keeps changing."
    )
    etl_in_flight: int = Field(64, gt=0, description="Small files and images that one process reads concurrently.")
    etl_large_bytes: int = Field(
        1 << 20, gt=0, description="Larger files are loaded by workers, so that they do not block a partition."
    )
    etl_slice: int = Field(1000, gt=0, description="Objects in one chunk of a full load.")
    etl_lease_seconds: float = Field(30.0, gt=0, description="Seconds until the work of a dead process is taken over.")
    etl_rejects_kept: int = Field(
        1000, gt=0, description="Rejected rows stored per file, with reasons; all are counted."
    )
    etl_parquet_bytes: int = Field(
        512 << 20,
        ge=256 << 20,
        description="Memory limit of the process that reads a Parquet file; one file is read at a time.",
    )
    etl_line_bytes: int = Field(1 << 20, gt=0, description="Maximum bytes of a row; longer rows are rejected.")

    @field_validator("etl_interval")
    @classmethod
    def _is_an_interval(cls, text: str) -> str:
        Interval.parse(text)
        return text
