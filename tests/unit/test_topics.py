"""Topics are listed once, and everything else about them follows."""

from itertools import groupby

from shared.topics import (
    CONSUMERS,
    MAX_DEAD_LETTER_BYTES,
    MINIO_LIVE,
    MINIO_SAFE,
    OBJECTS_CHANGED,
    TOPICS,
    Topic,
    all_topics,
)


def test_lanes_that_are_merged_by_key_have_equal_partitions():
    assert MINIO_LIVE.partitions == MINIO_SAFE.partitions


def test_every_reader_of_a_topic_has_a_dead_letter_topic():
    names = [topic.name for topic in all_topics()]
    assert len(names) == len(set(names))
    for service, read in CONSUMERS.items():
        assert {f"{topic.name}.{service}.dlq" for topic in read if not topic.is_dead_letter_topic} <= set(names)


def test_a_letter_outlives_its_record_and_has_room_for_the_reason():
    letters = OBJECTS_CHANGED.dead_letter_topic("hasher")
    assert letters.retention_ms > OBJECTS_CHANGED.retention_ms
    assert letters.config["max.message.bytes"] == str(MAX_DEAD_LETTER_BYTES)
    assert MAX_DEAD_LETTER_BYTES > 2 << 20


def test_a_compacted_topic_forgets_too():
    assert Topic("t", compacted=True, retention_ms=5).config == {
        "cleanup.policy": "compact,delete",
        "retention.ms": "5",
    }


def test_names_fit_kafka():
    for topic in all_topics():
        assert len(topic.name) <= 249
        assert all(sign.isalnum() or sign in "._-" for sign in topic.name)


def test_nothing_is_listed_twice():
    assert all(len(list(same)) == 1 for _, same in groupby(sorted(topic.name for topic in TOPICS)))
