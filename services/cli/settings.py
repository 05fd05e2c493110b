"""Settings of the console: from the environment, then from `.env` in the current folder or the checkout."""

import os
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError

from shared.environment import KAFKA_PASSWORD, PREFIX, ROLE_PASSWORD, USER_SECRET, by_service, read_file, resolve
from shared.errors import PenstockError, Rejected
from shared.settings import PrefixList, Settings

CHECKOUT = Path(__file__).resolve().parents[2]


class CliSettings(Settings):
    """The settings that all services share, and those of the console."""

    http_url: str = Field("http://127.0.0.1:8080", description="URL of the ingress.")
    token: SecretStr = Field(SecretStr(""), description="Token that the console sends to the ingress.")
    reader_password: SecretStr = Field(
        SecretStr(""), description="Password of the database role penstock_reader; empty disables its login."
    )
    user_secrets: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Secret keys of the services' S3 users, by service; only set-up uses them.",
    )
    role_passwords: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Passwords of the services' database roles, by service; only set-up uses them.",
    )
    kafka_passwords: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Passwords of the Kafka users of the services and the object store; only set-up uses them.",
    )
    hasher_delete_after: bool = Field(
        default=False, description="As in the hasher; if off, set-up grants the hasher no deletes."
    )
    hasher_delete_prefixes: PrefixList = Field(
        ("uploads/",), description="As in the hasher; set-up grants it deletes only below these prefixes."
    )
    upload_bucket: str = Field("inbox", description="As in the ingress; the bucket of the prefixes above.")
    etl_seed: bool = Field(
        default=False, description="As in etl; if off, set-up grants etl no writes to its input buckets."
    )
    etl_output_bucket: str = Field(
        "processed-data", description="As in etl; the only bucket that set-up lets etl write to."
    )
    etl_datasets: Path = Field(
        CHECKOUT / "services/etl/datasets.toml", description="As in etl; the file names the prefix of the seed data."
    )
    journal_dir: Path = Field(
        default_factory=lambda: _state_home() / "penstock/uploads",
        description="Folder of the journals of uploads that can be resumed.",
    )

    @property
    def seed_prefix(self) -> str:
        """Return `bucket/prefix` of the dataset that etl seeds; `src-data/` if its file cannot be read."""
        try:
            users = tomllib.loads(self.etl_datasets.read_text("utf-8"))["users"]
            return f"{users['bucket']}/{users.get('prefix', '')}"
        except (OSError, ValueError, LookupError, TypeError):
            return "src-data/"

    @property
    def hasher_deletable(self) -> tuple[str, ...]:
        """Return the prefixes whose objects the hasher may delete, as bucket/prefix."""
        return tuple(f"{self.upload_bucket}/{prefix}" for prefix in self.hasher_delete_prefixes)


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")


def _read_env_file(folder: Path | None) -> tuple[Path, Mapping[str, str]]:
    """Return the folder of the `.env` to use, and its variables.

    The file in the current folder is used if it has any of our variables; otherwise it belongs to another program.
    """
    if folder is not None:
        return folder, read_file(folder)
    with suppress(PenstockError, OSError):
        if found := read_file(Path.cwd()):
            return Path.cwd(), found
    return CHECKOUT, read_file(CHECKOUT)


def load(variables: Mapping[str, str] | None = None, folder: Path | None = None) -> CliSettings:
    """Return the settings from `variables` (default: the environment), completed from `.env`.

    Raises:
        Rejected: SETTINGS if a variable has an invalid value.

    """
    home, file = _read_env_file(folder)
    env = resolve(os.environ if variables is None else variables, file, folder=home)
    secrets = {
        "user_secrets": by_service(env, USER_SECRET),
        "role_passwords": by_service(env, ROLE_PASSWORD),
        "kafka_passwords": by_service(env, KAFKA_PASSWORD),
    }
    try:
        return CliSettings.of(env, **secrets)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        raise Rejected("SETTINGS", f"settings: {name.rstrip('_')}: {first['msg']}; correct it in .env") from None
