"""Settings by the names they had in the systems that Penstock replaces: read, where the new name says nothing."""

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
    """Return the former names that count in `env`, each with the name to use instead."""
    return {
        former: name
        for former, name in FORMER.items()
        if name not in env and (value := env.get(former, "")).strip().lower() not in _UNSET and not _is_folder(value)
    }


def renamed(env: Mapping[str, str]) -> dict[str, str]:
    """Return what `env` says by former names, by the new ones."""
    return {name: env[former] for former, name in used_in(env).items()}


def warning_of(former: str, name: str) -> str:
    """Say what to do about a former name."""
    return f"{former} is the former name of {name}, and is read as that: rename it"


def _is_folder(value: str) -> bool:
    """Tell whether this is where a former system kept its files: a bucket is named without a slash."""
    return value.startswith(("/", "./", "~"))
