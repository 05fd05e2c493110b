"""Names that settings had in the systems that Penstock replaces; they apply where the new name is unset."""

from collections.abc import Mapping
from typing import Final

FORMER: Final[Mapping[str, str]] = {
    "API_PORT": "PENSTOCK_HTTP_PORT",
    "ARTIFITIAL_DELAY": "PENSTOCK_HASHER_DELAY",
    "CELERY_WORKER_FILESYSTEM_TIMEOUT": "PENSTOCK_HASHER_WAIT_FOR_OBJECT",
    "CHUNK_SIZE": "PENSTOCK_HASHER_CHUNK_BYTES",
    "DELETE_FILE": "PENSTOCK_HASHER_DELETE_AFTER",
    "DISK_USAGE_THRESHOLD": "PENSTOCK_DISK_USAGE_THRESHOLD",
    "ETL_INTERVAL": "PENSTOCK_ETL_INTERVAL",
    "FILE_READ_BATCH_SIZE": "PENSTOCK_DOWNLOAD_CHUNK_BYTES",
    "STORAGE_ROOT": "PENSTOCK_UPLOAD_BUCKET",
}
_UNSET: Final = frozenset({"", "off", "none", "default"})


def used_in(env: Mapping[str, str]) -> dict[str, str]:
    """Return the former names that take effect in `env`, each with the name to use instead."""
    return {
        former: name
        for former, name in FORMER.items()
        if name not in env and (value := env.get(former, "")).strip().lower() not in _UNSET and not _is_folder(value)
    }


def renamed(env: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that `env` gives under former names, under their new names."""
    return {name: env[former] for former, name in used_in(env).items()}


def warning_of(former: str, name: str) -> str:
    """Return the warning about a former name, with the fix."""
    return f"{former} is the former name of {name}, and is read as that: rename it"


def _is_folder(value: str) -> bool:
    """Return whether `value` is a file folder of a former system; a bucket name has no slash."""
    return value.startswith(("/", "./", "~"))
