"""Settings from environment variables, with the same names in every service."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shared.former_names import renamed


def _split(value: object) -> object:
    return tuple(word for word in value.replace(",", " ").split() if word) if isinstance(value, str) else value


WordList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""A list in one variable, separated by commas or blanks."""


def _check_prefixes(value: tuple[str, ...]) -> tuple[str, ...]:
    for prefix in value:
        if not prefix.endswith("/") or prefix.startswith("/") or any(char in prefix for char in "*?$"):
            msg = f"{prefix!r} is not a prefix: write it as uploads/, with / only at the end and without *, ? and $"
            raise ValueError(msg)
    return value


PrefixList = Annotated[WordList, AfterValidator(_check_prefixes)]
"""Key prefixes that end with `/`; S3 policies can use them without escaping."""


OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""A path; None if the variable is empty."""


class Settings(BaseSettings):
    """Settings that every service needs to reach the stack."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_", frozen=True, extra="ignore", populate_by_name=True)

    s3_endpoint: str = Field("http://127.0.0.1:9000", description="URL of the object store.")
    s3_region: str = Field("us-east-1", description="Region in request signatures.")
    s3_access_key: str = Field("", description="S3 user of this service.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="Secret of this S3 user.")
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka's bootstrap servers, separated by commas.")
    kafka_user: str = Field("", description="Kafka user; empty: connect without a login.")
    kafka_password: SecretStr = Field(SecretStr(""), description="Password of the Kafka user.")
    kafka_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism; PLAIN sends the password itself: use it with TLS only."
    )
    kafka_tls: bool = Field(default=False, description="Connect to Kafka over TLS.")
    tls_ca: OptionalPath = Field(
        None,
        description="PEM file of the certificate authorities of Kafka, the object store and the HTTP API; empty: the "
        "system's. For Postgres, set sslrootcert in the DSN.",
    )
    postgres_dsn: SecretStr = Field(
        SecretStr("postgresql://penstock@127.0.0.1:5432/penstock"), description="Database of all services' state."
    )
    input_buckets: WordList = Field(
        ("inbox", "src-data", "jobs", "runs"),
        description="Buckets whose changes become facts.",
    )
    output_buckets: WordList = Field(
        ("processed-data", "results"), description="Buckets that Penstock writes results to; must not be inputs."
    )
    staging_bucket: str = Field(
        "uploads", description="Bucket for incomplete data: resumable uploads, and sets that will replace others."
    )
    state_dir: Path = Field(Path(".state"), description="Folder for local files that a service can rebuild.")
    health_host: str = Field("127.0.0.1", description="Address that probes and metrics listen on.")
    health_port: int = Field(0, description="Port of probes and metrics; 0: any free port.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    log_format: Literal["auto", "json", "pretty"] = Field("auto", description="auto: pretty on a terminal, else JSON.")
    stalled_seconds: float = Field(
        60.0,
        gt=0,
        description="Seconds without progress on pending records or work after which a service is not ready.",
    )
    otlp_endpoint: str = Field("", description="OTLP endpoint for traces, such as http://127.0.0.1:4318/v1/traces.")
    shutdown_grace: float = Field(
        15.0, gt=0, description="Seconds for a service to finish what it holds: half for work, half for records."
    )

    @classmethod
    def of(cls, env: Mapping[str, str], **more: Any) -> Self:
        """Create settings from `env` instead of this process's environment; `more` sets fields by name."""
        prefix, env = cls.model_config["env_prefix"], {**renamed(env), **env}
        given = {name: env[variable] for name in cls.model_fields if (variable := prefix + name.upper()) in env}
        return cls.model_validate(given | more)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add former names as the source of lowest priority."""
        prefix = cls.model_config["env_prefix"]
        former = {name.removeprefix(prefix).lower(): value for name, value in renamed(os.environ).items()}
        known = {name: value for name, value in former.items() if name in cls.model_fields}
        last = InitSettingsSource(settings_cls, init_kwargs=known)
        return init_settings, env_settings, dotenv_settings, file_secret_settings, last

    @property
    def buckets(self) -> tuple[str, ...]:
        """All buckets that must exist."""
        return (*self.input_buckets, *self.output_buckets, self.staging_bucket)

    def model_post_init(self, _context: Any, /) -> None:
        """Reject a Kafka user without a password, and a bucket that is input and output: its results would loop."""
        if self.kafka_user and not self.kafka_password.get_secret_value():
            msg = f"Kafka user {self.kafka_user} has no password: set PENSTOCK_KAFKA_PASSWORD"
            raise ValueError(msg)
        if both := set(self.input_buckets) & {*self.output_buckets, self.staging_bucket}:
            names = ", ".join(sorted(both))
            msg = (
                f"bucket {names} is both input and output, so its results would come back as new objects forever; "
                "remove it from PENSTOCK_INPUT_BUCKETS or PENSTOCK_OUTPUT_BUCKETS"
            )
            raise ValueError(msg)
