"""Dead letter topics and configurations follow from the list of topics."""

from services.catalogue import manifests
from shared.topics import MAX_DEAD_LETTER_BYTES, MINIO_LIVE, MINIO_SAFE, OBJECTS_CHANGED, Topic


def test_lanes_that_are_merged_by_key_have_equal_partitions():
    assert MINIO_LIVE.partitions == MINIO_SAFE.partitions


def test_every_reader_of_a_topic_has_a_dead_letter_topic():
    names = [topic.name for topic in manifests().all_topics]
    assert len(names) == len(set(names))
    for service, read in manifests().consumers.items():
        assert {f"{topic.name}.{service}.dlq" for topic in read if not topic.is_dead_letter_topic} <= set(names)


def test_dead_letter_topic_has_longer_retention_and_larger_records():
    letters = OBJECTS_CHANGED.dead_letter_topic("hasher")
    assert letters.retention_ms > OBJECTS_CHANGED.retention_ms
    assert letters.config["max.message.bytes"] == str(MAX_DEAD_LETTER_BYTES)
    assert MAX_DEAD_LETTER_BYTES > 2 << 20


def test_compacted_topic_also_deletes_old_records():
    assert Topic("t", compacted=True, retention_ms=5).config == {
        "cleanup.policy": "compact,delete",
        "retention.ms": "5",
    }


def test_topic_names_are_valid_in_kafka():
    for topic in manifests().all_topics:
        assert len(topic.name) <= 249
        assert all(sign.isalnum() or sign in "._-" for sign in topic.name)
