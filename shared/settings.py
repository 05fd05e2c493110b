"""Settings from the environment, the same names in every service; one line per field says what it is."""

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


def _words(value: object) -> object:
    return tuple(word for word in value.replace(",", " ").split() if word) if isinstance(value, str) else value


WordList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
"""A list in one variable: words apart by commas or blanks."""


def _prefixes(value: tuple[str, ...]) -> tuple[str, ...]:
    for prefix in value:
        if not prefix.endswith("/") or prefix.startswith("/") or any(sign in prefix for sign in "*?$"):
            msg = f"{prefix!r} is no folder: write it as uploads/, with / at its end alone and without *, ? and $"
            raise ValueError(msg)
    return value


PrefixList = Annotated[WordList, AfterValidator(_prefixes)]
"""Prefixes of keys that end with `/`; in S3 policies they can be used as they are."""


OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""A path; an empty variable is none."""


class Settings(BaseSettings):
    """What every service needs to reach the stack."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_", frozen=True, extra="ignore", populate_by_name=True)

    s3_endpoint: str = Field("http://127.0.0.1:9000", description="Where the object store answers.")
    s3_region: str = Field("us-east-1", description="The region that requests are signed for.")
    s3_access_key: str = Field("", description="This service's own S3 user.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="Its secret.")
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka's bootstrap servers, apart by commas.")
    kafka_user: str = Field("", description="Who logs in at Kafka; empty: nobody logs in.")
    kafka_password: SecretStr = Field(SecretStr(""), description="The Kafka user's password.")
    kafka_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="How the Kafka user logs in; PLAIN sends the password itself: over TLS only."
    )
    kafka_tls: bool = Field(default=False, description="Whether Kafka is reached over TLS.")
    tls_ca: OptionalPath = Field(
        None,
        description="PEM file of the authorities that Kafka, the object store and the ingress have their certificates "
        "from; empty: those of the system. Postgres has its own in its DSN.",
    )
    postgres_dsn: SecretStr = Field(
        SecretStr("postgresql://penstock@127.0.0.1:5432/penstock"), description="Where state is kept."
    )
    input_buckets: WordList = Field(
        ("inbox", "src-data", "jobs", "runs"),
        description="Buckets whose objects are facts; all others are outputs.",
    )
    output_buckets: WordList = Field(
        ("processed-data", "results"), description="Buckets that Penstock writes; they may not be inputs too."
    )
    staging_bucket: str = Field(
        "uploads", description="Bucket of what is not whole yet: uploads in pieces, sets that wait to replace another."
    )
    state_dir: Path = Field(Path(".state"), description="Where a service may keep files that it can make again.")
    health_host: str = Field("127.0.0.1", description="Where probes and metrics answer.")
    health_port: int = Field(0, description="Their port; 0 takes a free one.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="What is worth a line.")
    log_format: Literal["auto", "json", "pretty"] = Field("auto", description="auto: pretty on a terminal, else JSON.")
    stalled_seconds: float = Field(
        60.0,
        gt=0,
        description="Seconds without progress while records or work wait, past which a service is not ready.",
    )
    otlp_endpoint: str = Field("", description="Where spans are sent, such as http://127.0.0.1:4318/v1/traces.")
    shutdown_grace: float = Field(
        15.0, gt=0, description="Seconds for a service to finish what it holds: half for work, half for records."
    )

    @classmethod
    def of(cls, env: Mapping[str, str], **more: Any) -> Self:
        """Return the settings that `env` holds, whatever this process's own environment is; `more` is by field."""
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
        """Read former names too, where nothing else says anything."""
        prefix = cls.model_config["env_prefix"]
        former = {name.removeprefix(prefix).lower(): value for name, value in renamed(os.environ).items()}
        known = {name: value for name, value in former.items() if name in cls.model_fields}
        last = InitSettingsSource(settings_cls, init_kwargs=known)
        return init_settings, env_settings, dotenv_settings, file_secret_settings, last

    @property
    def buckets(self) -> tuple[str, ...]:
        """Every bucket that has to exist."""
        return (*self.input_buckets, *self.output_buckets, self.staging_bucket)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a Kafka user without a password, and a loop: an output that is an input would feed itself for ever."""
        if self.kafka_user and not self.kafka_password.get_secret_value():
            msg = f"Kafka user {self.kafka_user} has no password: set PENSTOCK_KAFKA_PASSWORD"
            raise ValueError(msg)
        if both := set(self.input_buckets) & {*self.output_buckets, self.staging_bucket}:
            names = ", ".join(sorted(both))
            msg = (
                f"bucket {names} is both input and output, so its results would come back as new objects for ever; "
                "take it out of PENSTOCK_INPUT_BUCKETS or of PENSTOCK_OUTPUT_BUCKETS"
            )
            raise ValueError(msg)
