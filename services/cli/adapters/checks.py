"""What `penstock doctor` looks at: the machine, the servers, and what must exist on them."""

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
from services.cli.adapters.trouble import reaching, why, within
from services.cli.core import findings
from services.cli.core.findings import FIX, START, Finding
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
    """Run one check; what it cannot reach is its finding."""
    try:
        return await check(settings)
    except PenstockError as error:
        detail, _, mend = one_line(error).partition("; ")
        return [Finding(name, ok=False, detail=detail, fix=START if isinstance(error, Outage) else mend)]


async def versions(settings: CliSettings) -> list[Finding]:
    """Name the versions of what runs."""
    async with database.open_database(settings) as connection:
        server = str(await connection.fetchval("SHOW server_version"))
    return [
        Finding("python", ok=True, detail=platform.python_version()),
        Finding("postgres", ok=True, detail=server),
    ]


async def broker(settings: CliSettings) -> list[Finding]:
    """See that the cluster has a controller and how many brokers there are."""
    async with kafka.open_admin(settings) as admin:
        cluster = await admin.describe_cluster()
    count = len(cluster["brokers"])
    detail = f"{count} broker{'s' if count != 1 else ''}, cluster {cluster.get('cluster_id')}"
    return [Finding("kafka", ok=count > 0, detail=detail, fix=START)]


async def object_store(settings: CliSettings) -> list[Finding]:
    """Name the object store's version; another server than MinIO tells only its name."""
    async with within(SECONDS, s3.name_of(settings)):
        return [Finding("object store", ok=True, detail=await asyncio.to_thread(_server_version, settings))]


def _server_version(settings: CliSettings) -> str:
    # 9 MiB that only this check needs
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
    """See that each server's port is open, and who holds it on this machine."""
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
        return Finding(f"port of {name}", ok=False, detail=f"{host}:{port}: {why(error)}", fix=START)
    holder = await asyncio.to_thread(_holder, port)
    return Finding(f"port of {name}", ok=True, detail=f"{host}:{port}{holder}")


def _holder(port: int) -> str:
    """Name the program that listens on a port of this machine, when we may know it."""
    try:
        listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        pid = next((one.pid for one in listening if one.laddr and one.laddr.port == port and one.pid), None)
        return f", {psutil.Process(pid).name()} (pid {pid})" if pid else ""
    except psutil.Error:
        return ""


async def topics(settings: CliSettings) -> list[Finding]:
    """See that every topic is there with its partitions."""
    wanted = {topic.name: topic.partitions for topic in catalogue.manifests().all_topics}
    async with kafka.open_admin(settings) as admin:
        return [findings.topics(wanted, await partition_counts(admin, wanted))]


async def buckets(settings: CliSettings) -> list[Finding]:
    """See that every bucket is there."""
    async with within(SECONDS, s3.name_of(settings)), s3.open_s3(settings, attempts=1) as client:
        there = [one["Name"] for one in (await client.list_buckets())["Buckets"]]
    return [findings.buckets(settings.buckets, there)]


async def rules(settings: CliSettings) -> list[Finding]:
    """See that every input bucket tells both lanes of its objects."""
    with reaching(s3.name_of(settings)):
        missing = await missing_rules(settings, settings.input_buckets)
    detail = f"missing {', '.join(missing)}" if missing else f"both lanes of {len(settings.input_buckets)} buckets"
    return [Finding("notification rules", not missing, detail, FIX)]


async def users(settings: CliSettings) -> list[Finding]:
    """See that each service's own S3 user, whose secret is known here, may look into an input bucket."""
    services = [user for user in settings.user_secrets if user in catalogue.manifests().s3_users]
    return await asyncio.gather(*(_user(settings, service) for service in services))


async def _user(settings: CliSettings, service: str) -> Finding:
    name = user_name(service)
    own = settings.model_copy(update={"s3_access_key": name, "s3_secret_key": settings.user_secrets[service]})
    try:
        async with within(SECONDS, s3.name_of(settings)), s3.open_s3(own, attempts=1) as client:
            await client.list_objects_v2(Bucket=settings.input_buckets[0], MaxKeys=1)
    except Rejected as error:
        # the store knows a user that may list nothing when it denies that; a wrong secret has another code
        lists = any("s3:ListBucket" in grant.actions for grant in catalogue.manifests().s3_users[service])
        if lists or "AccessDenied" not in str(error):
            return Finding(f"S3 user {name}", ok=False, detail=one_line(error).partition(";")[0], fix=FIX)
    return Finding(f"S3 user {name}", ok=True, detail="may do its work")


async def kafka_users(settings: CliSettings) -> list[Finding]:
    """See that Kafka accepts each user whose password is known here, where it has users."""
    users = catalogue.manifests().kafka_users if settings.kafka_user else ()
    names = [name for name in users if name in settings.kafka_passwords]

    return await asyncio.gather(*(_kafka_user(settings, name) for name in names))


async def _kafka_user(settings: CliSettings, name: str) -> Finding:
    user = user_name(name)
    async with within(SECONDS, kafka.name_of(settings)):
        ok = await accepts_password(settings, user, settings.kafka_passwords[name])
    return Finding(f"Kafka user {user}", ok=ok, detail="may log in" if ok else "is refused", fix=FIX)


async def reader(settings: CliSettings) -> list[Finding]:
    """See that tools that read get in with their password, where they are given one, and find every view."""
    if not (password := settings.reader_password.get_secret_value()):
        return []
    name = f"database role {READER}"
    try:
        async with database.open_database(settings, user=READER, password=password) as connection:
            hidden = await connection.fetchval(_HIDDEN)
    except Outage as error:
        if not isinstance(error.__cause__, asyncpg.InvalidAuthorizationSpecificationError):
            raise
        return [Finding(name, ok=False, detail=one_line(error.__cause__), fix=FIX)]
    return [Finding(name, ok=not hidden, detail=f"may not read {hidden}" if hidden else "may read", fix=FIX)]


async def roles(settings: CliSettings) -> list[Finding]:
    """See that each service has a database role of its own with its rights and no others, and works as that role."""
    services = catalogue.manifests().with_role
    async with database.open_database(settings) as connection:
        catalog = await grants.read(connection, services)
        strangers = await connection.fetchval(_SUPERUSERS, [*services])
    users = Finding(
        "database users",
        ok=not strangers,
        detail=f"{strangers}: a superuser" if strangers else "no service works as a superuser",
        fix=f"set {ROLE_PASSWORD}<SERVICE> in .env, then `make down` and `make up`",
    )
    logins = [await _role(settings, role_name(name), settings.role_passwords.get(name)) for name in services]
    faults = grants.summary(grants.missing(catalog), "lacks") + grants.summary(grants.excess(catalog), "has to lose")
    rights = Finding("database rights", not faults, "; ".join(faults) or "as few as the services need", FIX)
    return [users, *(one for one in logins if one is not None), rights]


async def _role(settings: CliSettings, name: str, password: SecretStr | None) -> Finding | None:
    if password is None:
        return None
    title = f"database role {name}"
    try:
        async with database.open_database(settings, user=name, password=password.get_secret_value()):
            return Finding(title, ok=True, detail="gets in")
    except Outage as error:
        if not isinstance(error.__cause__, asyncpg.InvalidAuthorizationSpecificationError):
            raise
        return Finding(title, ok=False, detail=one_line(error.__cause__), fix=FIX)


_SUPERUSERS = """
SELECT string_agg(DISTINCT format('%s works as %s', name, usename), ', ')
FROM pg_stat_activity JOIN pg_roles ON pg_roles.oid = usesysid AND rolsuper
JOIN unnest($1::text[]) AS name ON application_name = 'penstock-' || name
"""

_HIDDEN = """
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
    """See that the state folder has room."""
    path = next(one for one in (settings.state_dir, *settings.state_dir.parents, Path("/")) if one.exists())
    usage = shutil.disk_usage(path)
    return [findings.disk(str(path), usage.free, usage.total)]
