"""Create the S3 users of services with their policies through MinIO's admin API."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from shared import tls
from shared.errors import Outage, Rejected
from shared.manifest import Grant
from shared.settings import Settings

if TYPE_CHECKING:
    from minio import MinioAdmin

_SERVER_ERROR = 500


def user_name(service: str) -> str:
    """Return the name of a service's S3 or Kafka user; MinIO allows 3 to 20 characters."""
    return f"penstock-{service.replace('_', '-')}"


_DENIED: Final = (
    # MinIO lets every user create access keys and change its own secret.
    {"Effect": "Deny", "Action": ["admin:*"]},
    # It issues temporary credentials (STS AssumeRole) to every user; those and earlier access keys may do nothing.
    {
        "Effect": "Deny",
        "Action": ["s3:*"],
        "Resource": ["arn:aws:s3:::*"],
        "Condition": {"StringEquals": {"aws:principaltype": ["AssumedRole"]}},
    },
)


def policy(grants: Iterable[Grant], settings: Settings) -> dict[str, Any]:
    """Return the policy document of a user with these grants; a switch that `settings` lack counts as off."""
    enabled = [grant for grant in grants if not grant.when or getattr(settings, grant.when, False)]
    return {"Version": "2012-10-17", "Statement": [*(grant.statement(settings) for grant in enabled), *_DENIED]}


async def ensure_users(
    settings: Settings, users: Mapping[str, Iterable[Grant]], secrets: Mapping[str, SecretStr]
) -> list[str]:
    """Create or update the S3 users that have a secret, with their grants; return the changes.

    An S3 server other than MinIO has no such admin API: return one line that says so.

    Raises:
        Outage: the object store does not answer.
        Rejected: ACCESS_DENIED if `settings` are not the administrator's; S3_REFUSED if a secret is too short.

    """
    return await asyncio.to_thread(_ensure_users, settings, users, secrets)


def _ensure_users(
    settings: Settings, users: Mapping[str, Iterable[Grant]], secrets: Mapping[str, SecretStr]
) -> list[str]:
    admin = _Admin(settings, settings.s3_access_key, settings.s3_secret_key)
    policies = {user_name(user): policy(grants, settings) for user, grants in users.items() if user in secrets}
    by_name = {user_name(user): secret for user, secret in secrets.items()}
    try:
        return [
            line
            for name, document in policies.items()
            for line in _ensure_user(admin, settings, name, document, by_name[name])
        ]
    except _NoAdminApiError:
        names = ", ".join(policies)
        return [f"users: {settings.s3_endpoint} is not MinIO; create the S3 users {names} with its own tools"]


def _ensure_user(
    admin: "_Admin", settings: Settings, name: str, document: Mapping[str, Any], secret: SecretStr
) -> list[str]:
    changed = []
    if _canonical(admin.ask("policy_info", name)) != _canonical(document):
        admin.ask("policy_add", name, policy=document)
        changed.append(f"policy {name}: set")
    if not _Admin(settings, name, secret).accepts_login():
        admin.ask("user_add", name, secret.get_secret_value())
        changed.append(f"user {name}: set")
    if (admin.ask("user_info", name) or {}).get("policyName") != name:
        admin.ask("policy_set", name, user=name)
        changed.append(f"user {name}: policy attached")
    return changed


def _canonical(document: Any) -> Any:
    """Sort a policy document: MinIO returns actions and resources in its own order."""
    if isinstance(document, list):
        return sorted((_canonical(part) for part in document), key=json.dumps)
    if isinstance(document, dict):
        return {name: _canonical(part) for name, part in sorted(document.items())}
    return document


class _NoAdminApiError(Exception):
    """The server has no MinIO admin API."""


class _Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The admin API refused a command with error `code`."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class _Admin:
    """MinIO's admin API as one user."""

    def __init__(self, settings: Settings, user: str, secret: SecretStr) -> None:
        self._endpoint = settings.s3_endpoint
        self._user = user
        self._client = _client(settings, user, secret)

    def ask(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Run a command; return its JSON answer, None if no user or policy has that name."""
        try:
            return self._run(command, *args, **kwargs)
        except _Refused as refused:
            if refused.code in {"XMinioAdminNoSuchUser", "XMinioAdminNoSuchPolicy"}:
                return None
            if refused.status == 403:  # noqa: PLR2004 - Forbidden
                raise Rejected(
                    "ACCESS_DENIED",
                    f"S3 user {self._user} is not the administrator of {self._endpoint} ({refused.code}): "
                    "set PENSTOCK_S3_ACCESS_KEY and PENSTOCK_S3_SECRET_KEY to MinIO's root user",
                ) from None
            reason = f"{self._endpoint} refuses {command} {args[0]}: {refused.code}"
            raise Rejected("S3_REFUSED", reason) from None

    def accepts_login(self) -> bool:
        """Return whether the server accepts this user and secret."""
        try:
            self._run("account_info")
        except _Refused:
            return False
        return True

    def _run(self, command: str, *args: Any, **kwargs: Any) -> Any:
        from minio.error import MinioAdminException  # noqa: PLC0415 - see _client
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            answer = getattr(self._client, command)(*args, **kwargs)
        except HTTPError as error:
            raise self._outage(tls.describe_failure(error) or type(error).__name__) from error
        except MinioAdminException as error:
            refused = _refusal(str(error))
            if refused.status >= _SERVER_ERROR:
                raise self._outage(refused.code) from error
            raise refused from error
        return json.loads(answer) if answer else {}

    def _outage(self, reason: str) -> Outage:
        return Outage(f"object store {self._endpoint} cannot administer users: {reason}")


def _refusal(text: str) -> _Refused:
    """Parse `admin request failed; Status: 404, Body: {"Code": ...}`."""
    head, _, body = text.partition(", Body: ")
    status = int(head.rpartition(" ")[2])
    try:
        return _Refused(status, json.loads(body)["Code"])
    except (ValueError, KeyError, TypeError) as error:
        if status >= _SERVER_ERROR:
            return _Refused(status, f"HTTP {status}")
        raise _NoAdminApiError(body) from error


def _client(settings: Settings, user: str, secret: SecretStr) -> "MinioAdmin":
    # imported late: only set-up needs these 9 MiB
    from minio import MinioAdmin  # noqa: PLC0415
    from minio.credentials.providers import StaticProvider  # noqa: PLC0415
    from urllib3 import PoolManager, Retry, Timeout  # noqa: PLC0415

    url = urlsplit(settings.s3_endpoint)
    return MinioAdmin(
        endpoint=url.netloc,
        credentials=StaticProvider(user, secret.get_secret_value()),
        region=settings.s3_region,
        secure=url.scheme == "https",
        http_client=PoolManager(
            timeout=Timeout(connect=5, read=60), retries=Retry(0), ssl_context=tls.context(settings)
        ),
    )
