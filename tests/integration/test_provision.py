import asyncio
import uuid
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from services.catalogue import manifests
from services.cli.settings import CliSettings
from shared.errors import Outage, Rejected
from shared.provision import (
    Secrets,
    ensure_buckets,
    ensure_rules,
    ensure_topics,
    ensure_users,
    missing_rules,
    provision,
)
from shared.provision.topics import _alter, _configs
from shared.settings import Settings
from shared.storage import ObjectGone, ObjectRef, open_store
from shared.storage.admin_client import open_client
from shared.topics import Topic

pytestmark = pytest.mark.integration


def settings(env: dict[str, str], **changes: object) -> Settings:
    return CliSettings(
        **{
            "s3_endpoint": env["PENSTOCK_S3_ENDPOINT"],
            "s3_access_key": env["PENSTOCK_S3_ACCESS_KEY"],
            "s3_secret_key": SecretStr(env["PENSTOCK_S3_SECRET_KEY"]),
            "kafka_bootstrap": env["PENSTOCK_KAFKA_BOOTSTRAP"],
            **changes,
        }
    )


@pytest.fixture
def admin(servers) -> Settings:
    return settings(servers.env)


@pytest.fixture
def secrets(servers) -> dict[str, SecretStr]:
    return {
        name: SecretStr(servers.env[f"PENSTOCK_S3_SECRET_KEY_{name.upper()}"]) for name in ("ingest", "hasher", "etl")
    }


@pytest.fixture
def name() -> str:
    return f"provision-{uuid.uuid4().hex[:12]}"


async def settled(settings: Settings, topics: list[Topic]) -> None:
    """Wait until the broker shows what it was told: it answers before it has spread the news."""
    while await ensure_topics(settings, topics):
        pass


async def own_config(settings: Settings, topic: Topic) -> dict[str, str]:
    client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await client.start()
    try:
        return (await _configs(client, [topic]))[topic.name][1]
    finally:
        await client.close()


async def test_all_is_made_once_and_then_nothing_changes(admin, secrets):
    await provision(admin, manifests(), Secrets(s3_users=secrets))
    await settled(admin, list(manifests().all_topics))
    assert await provision(admin, manifests(), Secrets(s3_users=secrets)) == []
    assert await missing_rules(admin, admin.input_buckets) == []


async def test_a_topic_is_made_grown_and_configured(admin, name):
    topic = Topic(name, partitions=2)
    assert await ensure_topics(admin, [topic]) == [f"topic {name}: created with 2 partitions"]
    await settled(admin, [topic])
    other = replace(topic, partitions=3, retention_ms=1000, compacted=True)
    assert await ensure_topics(admin, [other]) == [
        f"topic {name}: partitions raised from 2 to 3",
        f"topic {name}: set retention.ms=1000, cleanup.policy=compact,delete",
    ]
    await settled(admin, [other])
    assert await ensure_topics(admin, [replace(other, partitions=1)]) == []


async def test_what_others_set_on_a_topic_stays(admin, name):
    topic = Topic(name, partitions=1)
    await ensure_topics(admin, [topic])
    client = AIOKafkaAdminClient(bootstrap_servers=admin.kafka_bootstrap)
    await client.start()
    await _alter(client, name, {"max.message.bytes": "2000000"})
    await client.close()
    while (await own_config(admin, topic)).get("max.message.bytes") is None:
        pass
    changed = replace(topic, retention_ms=1000)
    await ensure_topics(admin, [changed])
    await settled(admin, [changed])
    assert await own_config(admin, topic) == {"max.message.bytes": "2000000", **changed.config}


async def test_five_at_once_make_one(admin, name):
    small, large = Topic(name, partitions=1), Topic(name, partitions=4)
    for topic in (small, large):
        await asyncio.gather(*(ensure_topics(admin, [topic]) for _ in range(5)))
        await settled(admin, [topic])
    await asyncio.gather(*(ensure_buckets(admin, [name]) for _ in range(5)))
    await asyncio.gather(*(ensure_rules(admin, [name]) for _ in range(5)))
    assert await missing_rules(admin, [name]) == []


async def test_kafka_that_does_not_answer_is_an_outage(admin, unused_tcp_port):
    with pytest.raises(Outage, match=str(unused_tcp_port)):
        await ensure_topics(admin.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{unused_tcp_port}"}), [Topic("x")])


async def test_rules_of_others_stay(admin, name):
    await ensure_buckets(admin, [name])
    theirs = {
        "Id": "theirs",
        "QueueArn": "arn:minio:sqs::SAFE:kafka",
        "Events": ["s3:ObjectCreated:Put"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a/"}]}},
    }
    async with open_client(admin) as client:
        await client.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"QueueConfigurations": [theirs]}
        )
        assert await missing_rules(admin, [name]) == [f"{name}: LIVE", f"{name}: SAFE"]
        assert await ensure_rules(admin, [name]) == [f"bucket {name}: notification rules set for LIVE and SAFE"]
        assert await ensure_rules(admin, [name]) == []
        configuration = await client.get_bucket_notification_configuration(Bucket=name)
    assert sorted(rule["Id"] for rule in configuration["QueueConfigurations"]) == [
        "penstock-live",
        "penstock-safe",
        "theirs",
    ]
    assert theirs in configuration["QueueConfigurations"]


async def test_rules_of_a_missing_bucket_are_rejected(admin, name):
    with pytest.raises(Rejected) as caught:
        await ensure_rules(admin, [name])
    assert caught.value.code == "NO_SUCH_BUCKET"


async def test_each_service_may_do_its_work_and_no_more(servers, admin, secrets):
    await provision(admin, manifests(), Secrets(s3_users=secrets))
    users = {
        who: settings(servers.env, s3_access_key=f"penstock-{who}", s3_secret_key=secret)
        for who, secret in secrets.items()
    }
    assert await ensure_rules(users["ingest"], admin.input_buckets) == []
    async with (
        open_store(admin) as root,
        open_store(users["ingest"]) as ingest,
        open_store(users["hasher"]) as hasher,
    ):
        mine = (await root.put(ObjectRef("inbox", f"{uuid.uuid4().hex}/x"), b"abc")).ref
        output = (await root.put(ObjectRef("processed-data", mine.key), b"abc")).ref
        for store in (ingest, hasher):
            assert (await store.read(mine))[1] == b"abc"
            assert [len(page) async for page in store.list("inbox", prefix=mine.key)] == [1]
            with pytest.raises(ObjectGone):
                await store.head(ObjectRef("inbox", "no such thing"))
            for forbidden in (
                store.put(mine, b"x"),
                store.read(output),
                store.delete(output),
                store.delete(mine),
            ):
                with pytest.raises(Rejected) as caught:
                    await forbidden
                assert caught.value.code == "ACCESS_DENIED"
        async with open_store(users["etl"]) as etl:
            assert (await etl.read(mine))[1] == b"abc"
            assert (await etl.put(output, b"def")).ref.key == output.key
            for forbidden in (
                etl.delete(mine),
                etl.put(mine, b"x"),
                etl.put(ObjectRef("uploads", mine.key), b"x"),
                etl.put(ObjectRef("results", mine.key), b"x"),
            ):
                with pytest.raises(Rejected) as caught:
                    await forbidden
                assert caught.value.code == "ACCESS_DENIED"
        await root.delete(mine)
        await root.delete(output)
    with pytest.raises(Rejected, match="penstock-hasher"):
        await ensure_rules(users["hasher"], admin.input_buckets)


async def test_a_changed_secret_is_set_anew(servers, admin, secrets):
    await ensure_users(admin, manifests().s3_users, secrets)
    new = SecretStr("another-secret")
    assert await ensure_users(admin, manifests().s3_users, {"hasher": new}) == ["user penstock-hasher: set"]
    async with open_store(settings(servers.env, s3_access_key="penstock-hasher", s3_secret_key=new)) as store:
        with pytest.raises(ObjectGone):
            await store.head(ObjectRef("inbox", "no such thing"))
    assert await ensure_users(admin, manifests().s3_users, secrets) == ["user penstock-hasher: set"]


async def test_users_need_the_administrator(servers, admin, secrets):
    await ensure_users(admin, manifests().s3_users, secrets)
    service = settings(servers.env, s3_access_key="penstock-ingest", s3_secret_key=secrets["ingest"])
    with pytest.raises(Rejected, match="not the administrator"):
        await ensure_users(service, manifests().s3_users, secrets)


async def test_a_short_secret_is_rejected(admin):
    with pytest.raises(Rejected, match="XMinioAdminInvalidSecretKey"):
        await ensure_users(admin, manifests().s3_users, {"hasher": SecretStr("x")})


async def test_another_s3_server_gets_a_line_and_no_failure(admin, secrets):
    async def refuse(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\nConnection: close\r\n\r\n<Error/>")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        other = admin.model_copy(update={"s3_endpoint": endpoint})
        (line,) = await ensure_users(other, manifests().s3_users, secrets)
    assert "is not MinIO" in line


async def test_no_answer_for_users_is_an_outage(admin, secrets, unused_tcp_port):
    gone = admin.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{unused_tcp_port}"})
    with pytest.raises(Outage, match=str(unused_tcp_port)):
        await ensure_users(gone, manifests().s3_users, secrets)
