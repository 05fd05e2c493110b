"""Where the console finds the stack: the process's variables, then `.env` here or in the checkout."""

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
    """What every service needs, and what only the console uses."""

    http_url: str = Field("http://127.0.0.1:8080", description="Where the ingress answers.")
    token: SecretStr = Field(SecretStr(""), description="What the console sends to the ingress.")
    reader_password: SecretStr = Field(
        SecretStr(""), description="The password of the database role penstock_reader; empty: nobody logs in as it."
    )
    user_secrets: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Secrets of the services' own S3 users, by service; used by set-up only.",
    )
    role_passwords: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Passwords of the services' own database roles, by service; used by set-up only.",
    )
    kafka_passwords: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Passwords of the services' own Kafka users and of the object store's; used by set-up only.",
    )
    hasher_delete_after: bool = Field(
        default=False, description="As the hasher has it; off, set-up grants the hasher no deletes."
    )
    hasher_delete_prefixes: PrefixList = Field(
        ("uploads/",), description="As the hasher has them; set-up grants it deletes there alone."
    )
    upload_bucket: str = Field("inbox", description="As the ingress has it; the prefixes above are in this bucket.")
    etl_seed: bool = Field(default=False, description="As etl has it; off, set-up grants etl no writing of its inputs.")
    etl_output_bucket: str = Field("processed-data", description="As etl has it; set-up lets etl write there alone.")
    etl_datasets: Path = Field(
        CHECKOUT / "services/etl/datasets.toml", description="As etl has it; says where its seed data goes."
    )
    journal_dir: Path = Field(
        default_factory=lambda: _state_home() / "penstock/uploads",
        description="What is known of uploads that can be resumed.",
    )

    @property
    def seed_place(self) -> str:
        """Return bucket and prefix of the dataset that etl seeds; a file that cannot be read has none."""
        try:
            users = tomllib.loads(self.etl_datasets.read_text("utf-8"))["users"]
            return f"{users['bucket']}/{users.get('prefix', '')}"
        except (OSError, ValueError, LookupError, TypeError):
            return "src-data/"

    @property
    def hasher_delete_places(self) -> tuple[str, ...]:
        """Return the prefixes whose objects the hasher may delete, as bucket/prefix."""
        return tuple(f"{self.upload_bucket}/{prefix}" for prefix in self.hasher_delete_prefixes)


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")


def _file_of(folder: Path | None) -> tuple[Path, Mapping[str, str]]:
    """Return the folder whose `.env` counts, and its variables.

    That of the current folder counts where it has any of ours; else it is another program's, whatever is in it.
    """
    if folder is not None:
        return folder, read_file(folder)
    with suppress(PenstockError, OSError):
        if found := read_file(Path.cwd()):
            return Path.cwd(), found
    return CHECKOUT, read_file(CHECKOUT)


def load(variables: Mapping[str, str] | None = None, folder: Path | None = None) -> CliSettings:
    """Return the settings from `variables` (the process's own), filled up from `.env`.

    Raises:
        Rejected: a variable has a value that cannot be.

    """
    home, file = _file_of(folder)
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
        raise Rejected("SETTINGS", f"settings: {name.rstrip('_')}: {first['msg']}; mend it in .env") from None
