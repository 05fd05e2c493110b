"""One S3 user per service, with the policy that `policies` says, through MinIO's own administration."""

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from shared import tls
from shared.errors import Outage, Rejected
from shared.provision.policies import POLICIES, policy
from shared.settings import Settings

if TYPE_CHECKING:
    from minio import MinioAdmin

_SERVER_ERROR = 500


def user_name(service: str) -> str:
    """Name a service's S3 user; MinIO takes 3 to 20 characters."""
    return f"penstock-{service.replace('_', '-')}"


async def ensure_users(settings: Settings, secrets: Mapping[str, SecretStr]) -> list[str]:
    """Make the users of all services that have a policy and a secret; a changed secret or policy is set anew.

    On another S3 server than MinIO there is no such administration: one line says so, and nothing fails.

    Raises:
        Outage: the object store does not answer.
        Rejected: ACCESS_DENIED when `settings` are not the administrator's; S3_REFUSED: a secret is short.

    """
    return await asyncio.to_thread(_ensure_users, settings, secrets)


def _ensure_users(settings: Settings, secrets: Mapping[str, SecretStr]) -> list[str]:
    admin = _Admin(settings, settings.s3_access_key, settings.s3_secret_key)
    services = [service for service in POLICIES if service in secrets]
    try:
        return [line for service in services for line in _ensure_user(admin, settings, service, secrets[service])]
    except _NoAdministrationError:
        users = ", ".join(user_name(service) for service in services)
        return [f"users: {settings.s3_endpoint} is no MinIO; make the S3 users {users} by its own means"]


def _ensure_user(admin: "_Admin", settings: Settings, service: str, secret: SecretStr) -> list[str]:
    name, wanted = user_name(service), policy(service, settings)
    changed = []
    if _canonical(admin.ask("policy_info", name)) != _canonical(wanted):
        admin.ask("policy_add", name, policy=wanted)
        changed.append(f"policy {name}: set")
    if not _Admin(settings, name, secret).knows_itself():
        admin.ask("user_add", name, secret.get_secret_value())
        changed.append(f"user {name}: set")
    if (admin.ask("user_info", name) or {}).get("policyName") != name:
        admin.ask("policy_set", name, user=name)
        changed.append(f"user {name}: given its policy")
    return changed


def _canonical(document: Any) -> Any:
    """Order what has no order, for MinIO gives actions and resources back in its own."""
    if isinstance(document, list):
        return sorted((_canonical(part) for part in document), key=json.dumps)
    if isinstance(document, dict):
        return {name: _canonical(part) for name, part in sorted(document.items())}
    return document


class _NoAdministrationError(Exception):
    """The server does not speak MinIO's administration."""


class _Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The administration answered no; `code` says why."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class _Admin:
    """MinIO's administration as one user."""

    def __init__(self, settings: Settings, user: str, secret: SecretStr) -> None:
        self._endpoint = settings.s3_endpoint
        self._user = user
        self._client = _client(settings, user, secret)

    def ask(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Run a command; its answer as JSON, None where there is nothing of that name."""
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
            told = f"{self._endpoint} refuses {command} {args[0]}: {refused.code}"
            raise Rejected("S3_REFUSED", told) from None

    def knows_itself(self) -> bool:
        """Tell whether the server takes this user with this secret."""
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
    """Read `admin request failed; Status: 404, Body: {"Code": ...}`."""
    head, _, body = text.partition(", Body: ")
    status = int(head.rpartition(" ")[2])
    try:
        return _Refused(status, json.loads(body)["Code"])
    except (ValueError, KeyError, TypeError) as error:
        if status >= _SERVER_ERROR:
            return _Refused(status, f"HTTP {status}")
        raise _NoAdministrationError(body) from error


def _client(settings: Settings, user: str, secret: SecretStr) -> "MinioAdmin":
    # 9 MiB that only set-up needs
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
