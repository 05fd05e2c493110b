"""Settings of etl."""

from pathlib import Path

from pydantic import Field, field_validator

from services.etl.core.schedules import Interval
from shared.settings import Settings


class EtlSettings(Settings):
    """What etl needs beyond the stack; the name in brackets is that of the users ETL it replaces."""

    health_port: int = Field(8084, description="Port of probes and metrics; 0 takes a free one.")
    etl_datasets: Path = Field(
        Path(__file__).with_name("datasets.toml"), description="The file that says which files become which tables."
    )
    etl_interval: str = Field(
        "25m",
        description="How often everything is compared with its bucket (ETL_INTERVAL): 25m, 90s, 2h, cron text in UTC, "
        "or 0: at start and on request only.",
    )
    etl_seed: bool = Field(
        default=False, description="Put 100 made-up users into an empty bucket of the dataset users, once."
    )
    etl_output_bucket: str = Field("processed-data", description="Where tables and rejected rows are written as files.")
    etl_debounce_seconds: float = Field(
        1.0, ge=0, description="How long a dataset has to be quiet before its files are written."
    )
    etl_debounce_most_seconds: float = Field(
        3.0, ge=0, description="How long a dataset that is never quiet waits for its files."
    )
    etl_in_flight: int = Field(64, gt=0, description="Small files and images read at a time by one process.")
    etl_large_bytes: int = Field(
        1 << 20, gt=0, description="Files above this become leased work, so that they never hold up a partition."
    )
    etl_slice: int = Field(1000, gt=0, description="Objects that one process takes of a full load at a time.")
    etl_lease_seconds: float = Field(30.0, gt=0, description="How long work stays a dead process's.")
    etl_rejects_kept: int = Field(
        1000, gt=0, description="Rejected rows kept of one file, each with its reason; all are counted."
    )
    etl_parquet_bytes: int = Field(
        512 << 20, ge=256 << 20, description="Memory of the process that reads a Parquet file; one is read at a time."
    )
    etl_line_bytes: int = Field(1 << 20, gt=0, description="The longest row of a file; what is longer is rejected.")

    @field_validator("etl_interval")
    @classmethod
    def _is_an_interval(cls, text: str) -> str:
        Interval.parse(text)
        return text
