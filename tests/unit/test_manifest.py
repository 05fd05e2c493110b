"""What follows from manifests: topics, groups, users, rights, roles, secrets and documents."""

import pytest

from deploy import architecture_tables
from services import catalogue
from services.hasher import manifest
from shared.errors import PenstockError
from shared.events import ObjectHashed
from shared.manifest import READ_INPUTS, STORE, Grant, Manifest, Manifests
from shared.provision.kafka_rights import Operation, Resource, rights_of
from shared.provision.users import policy
from shared.settings import Settings
from shared.topics import MINIO_LIVE, OBJECTS_CHANGED, OBJECTS_HASHED, SWEEPS_REQUESTED, Topic

READER = Manifest(
    name="reader",
    consumes=(OBJECTS_CHANGED, SWEEPS_REQUESTED),
    publishes=(ObjectHashed,),
    grants=READ_INPUTS,
    views={"seen": "every object"},
)
ARCHIVE = Manifest(name="archive", consumes_all_facts=True, more_users={"extra": READ_INPUTS}, secrets=("TOKEN",))
TOOL = Manifest(name="tool", is_operator=True, publishes=(ObjectHashed,))
ALL = Manifests([READER, ARCHIVE, TOOL])


def test_topics_are_those_published_or_consumed_with_dead_letter_topics_of_consumers():
    assert {MINIO_LIVE, OBJECTS_CHANGED, OBJECTS_HASHED, SWEEPS_REQUESTED} <= set(ALL.topics)
    names = {topic.name for topic in ALL.all_topics}
    assert {"objects.changed.v1.reader.dlq", "sweeps.requested.v1.reader.dlq", "objects.hashed.v1.archive.dlq"} <= names
    assert not any(name.count(".dlq") > 1 or ".tool." in name for name in names)


def test_consumer_of_all_facts_reads_facts_and_dead_letters_of_others_but_no_requests():
    assert {topic.name for topic in ALL.consumers["archive"]} == {
        "objects.changed.v1",
        "objects.hashed.v1",
        "objects.changed.v1.reader.dlq",
        "sweeps.requested.v1.reader.dlq",
    }
    assert "tool" not in ALL.consumers


def test_operator_has_no_users_and_no_role():
    assert ALL.kafka_users == ("archive", STORE, "reader")
    assert set(ALL.s3_users) == {"archive", "extra", "reader"}
    assert set(ALL.with_role) == {"archive", "reader"}
    assert not [name for name in ALL.secrets if name.endswith("_TOOL")]


def test_secrets_are_those_of_the_servers_that_a_service_needs():
    alone = Manifests([Manifest(name="loner", needs=("kafka",))])
    assert set(alone.secrets) == {"PENSTOCK_KAFKA_PASSWORD_LONER", "PENSTOCK_KAFKA_PASSWORD_MINIO"}
    assert ALL["archive"].entrusted == ("TOKEN", "S3_SECRET_KEY_EXTRA")


def test_user_reads_its_topics_in_its_group_and_writes_its_events_and_dead_letters():
    rights = {(one.resource, one.name, one.operation) for one in rights_of(ALL, "reader")}
    assert rights == {
        (Resource.TOPIC, "objects.changed.v1", Operation.READ),
        (Resource.TOPIC, "sweeps.requested.v1", Operation.READ),
        (Resource.TOPIC, "objects.hashed.v1", Operation.WRITE),
        (Resource.TOPIC, "objects.changed.v1.reader.dlq", Operation.WRITE),
        (Resource.TOPIC, "sweeps.requested.v1.reader.dlq", Operation.WRITE),
        (Resource.GROUP, "reader", Operation.READ),
    }


def test_grant_covers_buckets_of_a_role_or_prefixes():
    class Own(Settings):
        prefixes: tuple[str, ...] = ("inbox/a/", "inbox/b/")

    settings = Own(input_buckets=("in",))
    statements = policy((*READ_INPUTS, Grant("objects", "prefixes", ("s3:PutObject",))), settings)["Statement"]
    assert [one["Resource"] for one in statements[:3]] == [
        ["arn:aws:s3:::in"],
        ["arn:aws:s3:::in/*"],
        ["arn:aws:s3:::inbox/a/*", "arn:aws:s3:::inbox/b/*"],
    ]


@pytest.mark.parametrize(
    ("twin", "reason"),
    [
        (Manifest(name="reader"), "service reader is declared twice"),
        (Manifest(name="twin", views={"seen": "x"}), "view seen is declared twice"),
        (Manifest(name="twin", views={"work": "x"}), "view work is declared twice"),
        (Manifest(name="twin", more_users={"reader": ()}), "S3 user reader is declared twice"),
        (Manifest(name="twin", consumes=(Topic("objects.changed.v1", partitions=9),)), "topic objects.changed.v1 is"),
    ],
)
def test_two_manifests_must_not_declare_the_same_thing(twin, reason):
    with pytest.raises(PenstockError, match=reason):
        Manifests([READER, twin])


def test_manifest_is_named_after_its_folder(monkeypatch):
    monkeypatch.setattr(manifest, "MANIFEST", READER)
    with pytest.raises(PenstockError, match=r"services/hasher/manifest\.py names 'reader'"):
        catalogue._manifest_of("hasher")


def test_documents_show_each_service_topic_and_view():
    tables = architecture_tables.tables(ALL)
    assert "| `archive` | every fact and every dead letter |" in tables["services"]
    assert "| `reader` | `objects.changed.v1`, `sweeps.requested.v1` | `objects.hashed.v1` |" in tables["services"]
    assert "| `api.seen` | every object | reader |" in tables["views"]
    assert tables["topics"].count("\n| `") == len(ALL.topics)
