"""Checks of `penstock doctor`: the machine, the servers, and the topics, buckets, rules, users and roles on them."""

import asyncio
import errno
import json
import platform
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import psutil
from pydantic import SecretStr

from services import catalogue
from services.cli.adapters import database, kafka, s3
from services.cli.adapters.errors import describe_failure, translate_errors, within
from services.cli.core import findings
from services.cli.core.findings import FIX_COMMAND, START_COMMAND, Finding
from services.cli.settings import CliSettings
from shared import tls
from shared.environment import ROLE_PASSWORD
from shared.errors import Outage, PenstockError, Rejected, one_line
from shared.lags import partition_counts
from shared.provision import grants, missing_rules
from shared.provision.kafka_users import accepts_password
from shared.provision.rights import READER, role_name
from shared.provision.users import user_name

Check = Callable[[CliSettings], Awaitable[list[Finding]]]
SECONDS = 10.0


async def run(name: str, check: Check, settings: CliSettings) -> list[Finding]:
    """Run one check; an error becomes a failed finding."""
    try:
        return await check(settings)
    except PenstockError as error:
        detail, _, hint = one_line(error).partition("; ")
        return [Finding(name, ok=False, detail=detail, fix=START_COMMAND if isinstance(error, Outage) else hint)]


async def versions(settings: CliSettings) -> list[Finding]:
    """Report the versions of Python and Postgres."""
    async with database.open_database(settings) as connection:
        server = str(await connection.fetchval("SHOW server_version"))
    return [
        Finding("python", ok=True, detail=platform.python_version()),
        Finding("postgres", ok=True, detail=server),
    ]


async def broker(settings: CliSettings) -> list[Finding]:
    """Check that the Kafka cluster has brokers."""
    async with kafka.open_admin(settings) as admin:
        cluster = await admin.describe_cluster()
    count = len(cluster["brokers"])
    detail = f"{count} broker{'s' if count != 1 else ''}, cluster {cluster.get('cluster_id')}"
    return [Finding("kafka", ok=count > 0, detail=detail, fix=START_COMMAND)]


async def object_store(settings: CliSettings) -> list[Finding]:
    """Report the version of MinIO; of another object store, its `Server` header."""
    async with within(SECONDS, s3.name_of(settings)):
        return [Finding("object store", ok=True, detail=await asyncio.to_thread(_server_version, settings))]


def _server_version(settings: CliSettings) -> str:
    # 9 MiB of memory that only this check needs
    from minio import MinioAdmin  # noqa: PLC0415
    from minio.credentials.providers import StaticProvider  # noqa: PLC0415
    from minio.error import MinioAdminException  # noqa: PLC0415
    from urllib3 import PoolManager  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    url = urlsplit(settings.s3_endpoint)
    keys = StaticProvider(settings.s3_access_key, settings.s3_secret_key.get_secret_value())
    web = PoolManager(timeout=SECONDS, retries=False, ssl_context=tls.context(settings))
    admin = MinioAdmin(endpoint=url.netloc, credentials=keys, secure=url.scheme == "https", http_client=web)
    try:
        info = json.loads(admin.info())
        return f"MinIO {info['servers'][0]['version']}"
    except HTTPError as error:
        raise ConnectionRefusedError(errno.ECONNREFUSED, str(error)) from error
    except (MinioAdminException, ValueError, LookupError):
        answer = httpx.get(settings.s3_endpoint, timeout=SECONDS, verify=tls.context(settings), trust_env=False)
        return str(answer.headers.get("Server", "unknown"))


async def ports(settings: CliSettings) -> list[Finding]:
    """Check that each server's port is open; report the process that listens on it if it is on this machine."""
    dsn = settings.postgres_dsn.get_secret_value()
    addresses = {
        "object store": settings.s3_endpoint,
        "kafka": f"kafka://{settings.kafka_bootstrap.split(',')[0]}",
        "postgres": dsn,
    }
    return await asyncio.gather(*(_port(name, address) for name, address in addresses.items()))


async def _port(name: str, address: str) -> Finding:
    url = urlsplit(address)
    host, port = url.hostname or "127.0.0.1", url.port or {"https": 443, "http": 80}.get(url.scheme, 5432)
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
    except (OSError, TimeoutError) as error:
        return Finding(
            f"port of {name}", ok=False, detail=f"{host}:{port}: {describe_failure(error)}", fix=START_COMMAND
        )
    listener = await asyncio.to_thread(_listener, port)
    return Finding(f"port of {name}", ok=True, detail=f"{host}:{port}{listener}")


def _listener(port: int) -> str:
    """Return name and pid of the process that listens on `port` of this machine; empty without the right to see it."""
    try:
        listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        pid = next((one.pid for one in listening if one.laddr and one.laddr.port == port and one.pid), None)
        return f", {psutil.Process(pid).name()} (pid {pid})" if pid else ""
    except psutil.Error:
        return ""


async def topics(settings: CliSettings) -> list[Finding]:
    """Check that every topic exists with its partitions."""
    required = {topic.name: topic.partitions for topic in catalogue.manifests().all_topics}
    async with kafka.open_admin(settings) as admin:
        return [findings.topics(required, await partition_counts(admin, required))]


async def buckets(settings: CliSettings) -> list[Finding]:
    """Check that every bucket exists."""
    async with within(SECONDS, s3.name_of(settings)), s3.open_s3(settings, attempts=1) as client:
        existing = [one["Name"] for one in (await client.list_buckets())["Buckets"]]
    return [findings.buckets(settings.buckets, existing)]


async def rules(settings: CliSettings) -> list[Finding]:
    """Check that every input bucket has the notification rules of both lanes."""
    with translate_errors(s3.name_of(settings)):
        missing = await missing_rules(settings, settings.input_buckets)
    detail = f"missing {', '.join(missing)}" if missing else f"both lanes of {len(settings.input_buckets)} buckets"
    return [Finding("notification rules", not missing, detail, FIX_COMMAND)]


async def users(settings: CliSettings) -> list[Finding]:
    """Check that the S3 user of each service, if its secret is in the settings, may list an input bucket."""
    services = [service for service in settings.user_secrets if service in catalogue.manifests().s3_users]
    return await asyncio.gather(*(_user(settings, service) for service in services))


async def _user(settings: CliSettings, service: str) -> Finding:
    name = user_name(service)
    own = settings.model_copy(update={"s3_access_key": name, "s3_secret_key": settings.user_secrets[service]})
    try:
        async with within(SECONDS, s3.name_of(settings)), s3.open_s3(own, attempts=1) as client:
            await client.list_objects_v2(Bucket=settings.input_buckets[0], MaxKeys=1)
    except Rejected as error:
        # AccessDenied proves that the store knows a user without the right to list; a wrong secret has another code
        lists = any("s3:ListBucket" in grant.actions for grant in catalogue.manifests().s3_users[service])
        if lists or "AccessDenied" not in str(error):
            return Finding(f"S3 user {name}", ok=False, detail=one_line(error).partition(";")[0], fix=FIX_COMMAND)
    return Finding(f"S3 user {name}", ok=True, detail="has its rights")


async def kafka_users(settings: CliSettings) -> list[Finding]:
    """Check that Kafka accepts each user whose password is in the settings, if logins are enabled."""
    users = catalogue.manifests().kafka_users if settings.kafka_user else ()
    names = [name for name in users if name in settings.kafka_passwords]
    return await asyncio.gather(*(_kafka_user(settings, name) for name in names))


async def _kafka_user(settings: CliSettings, name: str) -> Finding:
    user = user_name(name)
    async with within(SECONDS, kafka.name_of(settings)):
        ok = await accepts_password(settings, user, settings.kafka_passwords[name])
    return Finding(f"Kafka user {user}", ok=ok, detail="can log in" if ok else "cannot log in", fix=FIX_COMMAND)


async def reader(settings: CliSettings) -> list[Finding]:
    """Check that the reader role can log in, if its password is in the settings, and may read every view."""
    if not (password := settings.reader_password.get_secret_value()):
        return []
    name = f"database role {READER}"
    try:
        async with database.open_database(settings, user=READER, password=password) as connection:
            unreadable = await connection.fetchval(_UNREADABLE)
    except Outage as error:
        if not isinstance(error.__cause__, asyncpg.InvalidAuthorizationSpecificationError):
            raise
        return [Finding(name, ok=False, detail=one_line(error.__cause__), fix=FIX_COMMAND)]
    return [
        Finding(
            name,
            ok=not unreadable,
            detail=f"may not read {unreadable}" if unreadable else "may read every view",
            fix=FIX_COMMAND,
        )
    ]


async def roles(settings: CliSettings) -> list[Finding]:
    """Check that each service connects as its own database role, and that the roles have exactly their rights."""
    services = catalogue.manifests().with_role
    async with database.open_database(settings) as connection:
        catalog = await grants.read(connection, services)
        superusers = await connection.fetchval(_SUPERUSERS, [*services])
    users = Finding(
        "database users",
        ok=not superusers,
        detail=f"{superusers}: a superuser" if superusers else "no service connects as a superuser",
        fix=f"set {ROLE_PASSWORD}<SERVICE> in .env, then `make down` and `make up`",
    )
    logins = [await _role(settings, role_name(name), settings.role_passwords.get(name)) for name in services]
    faults = grants.summary(grants.missing(catalog), "lacks") + grants.summary(grants.excess(catalog), "must not have")
    rights = Finding("database rights", not faults, "; ".join(faults) or "exactly what the services need", FIX_COMMAND)
    return [users, *(one for one in logins if one is not None), rights]


async def _role(settings: CliSettings, name: str, password: SecretStr | None) -> Finding | None:
    if password is None:
        return None
    title = f"database role {name}"
    try:
        async with database.open_database(settings, user=name, password=password.get_secret_value()):
            return Finding(title, ok=True, detail="can log in")
    except Outage as error:
        if not isinstance(error.__cause__, asyncpg.InvalidAuthorizationSpecificationError):
            raise
        return Finding(title, ok=False, detail=one_line(error.__cause__), fix=FIX_COMMAND)


_SUPERUSERS = """
SELECT string_agg(DISTINCT format('%s connects as %s', name, usename), ', ')
FROM pg_stat_activity JOIN pg_roles ON pg_roles.oid = usesysid AND rolsuper
JOIN unnest($1::text[]) AS name ON application_name = 'penstock-' || name
"""

_UNREADABLE = """
SELECT string_agg(oid::regclass::text, ', ' ORDER BY relname) FROM pg_class
WHERE relnamespace = 'api'::regnamespace AND relkind = 'v' AND NOT has_table_privilege(oid, 'SELECT')
"""


async def clocks(settings: CliSettings) -> list[Finding]:
    """Compare the servers' clocks with this machine's."""
    return [await _clock_of_store(settings), await _clock_of_database(settings)]


async def _clock_of_store(settings: CliSettings) -> Finding:
    async with (
        within(SECONDS, s3.name_of(settings)),
        httpx.AsyncClient(timeout=SECONDS, verify=tls.context(settings), trust_env=False) as client,
    ):
        sent = datetime.now(UTC)
        try:
            answer = await client.head(settings.s3_endpoint)
        except httpx.HTTPError as error:
            raise ConnectionRefusedError(errno.ECONNREFUSED, str(error)) from error
        received = datetime.now(UTC)
    theirs = parsedate_to_datetime(answer.headers["Date"])
    return findings.skew("the object store", theirs, sent, received, resolution=1.0)


async def _clock_of_database(settings: CliSettings) -> Finding:
    async with database.open_database(settings) as connection:
        sent = datetime.now(UTC)
        theirs = await connection.fetchval("SELECT clock_timestamp()")
    return findings.skew("Postgres", theirs, sent, datetime.now(UTC))


async def disk(settings: CliSettings) -> list[Finding]:
    """Check the free space of the state folder's file system."""
    path = next(one for one in (settings.state_dir, *settings.state_dir.parents, Path("/")) if one.exists())
    usage = shutil.disk_usage(path)
    return [findings.disk(str(path), usage.free, usage.total)]
