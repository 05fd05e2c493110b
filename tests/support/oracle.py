"""What must be true after every fault: bucket, database and topics agree, nothing is lost, twice or told in clear."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.catalogue import manifests
from shared.topics import OBJECTS_CHANGED, OBJECTS_HASHED, dead_letter_topics_of
from tests.support.system import ANY_ETAG, DEFAULT_DIGESTS, ObjectKey, SystemUnderTest, digests_of
from tests.support.topics import Fact
from tests.support.waiting import until

CONSUMERS: Final = manifests().consumers
GROUPS: Final = {service: [topic.name for topic in topics] for service, topics in CONSUMERS.items()}
ALWAYS_RUNNING: Final = {"ingest", "hasher"}
INPUTS: Final = ("inbox", "src-data")
_SECRET_WORDS: Final = ("SECRET", "TOKEN", "PASSWORD")
_FOUND: Final = ("missed", "vanished", "late")
_OBJECTS = "SELECT bucket, key, etag FROM api.objects WHERE starts_with(key, $1) AND state = 'stored'"
_DIGESTS = (
    "SELECT bucket, key, etag, size, status, digests::text AS digests FROM api.digests WHERE starts_with(key, $1)"
)


@dataclass
class Oracle:
    """Judges what became of one test's objects; made before the fault, so that it knows what is old."""

    system: SystemUnderTest
    fault: str
    dead_letters_before: int = 0
    ends_before: Mapping[tuple[str, int], int] = field(default_factory=dict)
    open_before: set[str] = field(default_factory=set)
    over_at: float = field(default_factory=time.monotonic)
    sweeps: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dead_letters_before = len(self._dead_letters())
        self.ends_before = self.system.kafka.ends(topic.name for topics in CONSUMERS.values() for topic in topics)
        self.open_before = set(self._open_uploads())

    def over(self) -> None:
        """Note that the fault is over: from here on recovery is timed."""
        self.over_at = time.monotonic()

    def sweep(self) -> None:
        """Let a sweep heal what was never notified; what it found is in the report."""
        self.sweeps.append(self.system.sweep())

    def judge(self, *, within: float = 90, dead_letters: Mapping[str, int] | None = None) -> None:
        """Wait until everything has settled, then look for what must not be; print what it came to.

        `letters` are the dead letters that were to be expected, by code; `within` is in seconds.
        """
        until(lambda: not self.unsettled(), within, self.unsettled)
        seconds = time.monotonic() - self.over_at
        stored, changed, hashed = self.listed(), self._facts(OBJECTS_CHANGED.name), self._facts(OBJECTS_HASHED.name)
        lost = list(self._lost(stored, changed, hashed))
        wrong = [
            *self._twice(changed),
            *self._twice(hashed),
            *self._unexpected_dead_letters(dead_letters or {}),
            *self._open_uploads(),
            *self._leaks(),
        ]
        found = {what: sum(self._sweep_row(row)[what] for row in self.sweeps) for what in _FOUND}
        repeats = len(changed) + len(hashed) - len({fact.header("ce_id") for fact in changed + hashed})
        print(
            f"\n{self.fault}: {len(stored)} objects, lost {len(lost)}, otherwise wrong {len(wrong)}, "
            f"recovered in {seconds:.1f} s, facts repeated under their ids {repeats}"
            + (f", found by sweeps {found}" if self.sweeps else "")
        )
        assert not lost + wrong, lost + wrong

    def _sweep_row(self, row: Any) -> Any:
        """Return a sweep's row as it is now: what was only late is known later."""
        return self.system.database.rows("SELECT * FROM api.sweeps WHERE sweep_id = $1", row["sweep_id"])[0]

    def unsettled(self) -> list[str]:
        """Name up to twenty things that are not as the bucket says, and what is still to be read."""
        stored = self.listed()
        published = {(row["bucket"], row["key"]): row["etag"] for row in self._rows(_OBJECTS)}
        rows = {(row["bucket"], row["key"]): row for row in self._rows(_DIGESTS)}
        found = [
            *(
                f"{key} is stored, told as {published.get(key)}"
                for key in stored
                if published.get(key) != stored[key][0]
            ),
            *(f"{key} is gone, told as stored" for key in published if key not in stored),
            *(f"{key}: {rows.get(key)}" for key in stored if not _is_done(rows.get(key), *stored[key])),
            *(f"{key} is gone, has digests" for key, row in rows.items() if key not in stored and _claims(row)),
        ]
        lags = lags_of(self.system)
        return found[:20] + ([f"lag {lags}"] if lags else [])

    def _rows(self, question: str) -> list[Any]:
        return self.system.database.rows(question, self.system.prefix)

    def listed(self) -> dict[ObjectKey, tuple[str, int]]:
        """Return etag and size of everything that the bucket holds under the prefix; folder markers are nothing."""
        pages = self.system.s3.get_paginator("list_objects_v2")
        return {
            (bucket, one["Key"]): (one["ETag"].strip('"'), one["Size"])
            for bucket in INPUTS
            for page in pages.paginate(Bucket=bucket, Prefix=self.system.prefix)
            for one in page.get("Contents", ())
            if not (one["Key"].endswith("/") and not one["Size"])
        }

    def _facts(self, topic: str) -> list[Fact]:
        mine = tuple(f"{bucket}/{self.system.prefix}".encode() for bucket in INPUTS)
        return [fact for fact in self.system.kafka.read(topic) if (fact.key or b"").startswith(mine)]

    def _lost(
        self, stored: Mapping[ObjectKey, tuple[str, int]], changed: Iterable[Fact], hashed: Iterable[Fact]
    ) -> Iterator[str]:
        """What the bucket holds and the ledger or a topic does not say, or says wrongly."""
        rows = {(row["bucket"], row["key"]): row["digests"] for row in self._rows(_DIGESTS)}
        published = {(_object_key(fact), fact.body.get("etag")) for fact in changed}
        hashes = {(_object_key(fact), fact.body["etag"]): fact.body["digests"] for fact in hashed}
        for key, (etag, _) in stored.items():
            body = self.system.bodies[key].get(etag, self.system.bodies[key].get(ANY_ETAG))
            algorithms = self.system.requested_digests.get(key, DEFAULT_DIGESTS)
            right = digests_of(body, algorithms) if body is not None else None
            if (key, etag) not in published:
                yield f"{key} was never told"
            if right is None or hashes.get((key, etag)) != right:
                yield f"{key} was told with digests {hashes.get((key, etag))}, not {right}"
            if right is None or any(value not in rows[key] for value in right.values()):
                yield f"{key} has digests {rows[key]}, not {right}"

    def _twice(self, facts: Iterable[Fact]) -> Iterator[str]:
        """Versions told under more ids than they were stored times; the same id may come again."""
        published: dict[Any, dict[str, dict[str, Any]]] = defaultdict(dict)
        for fact in facts:
            if fact.body.get("etag"):
                published[*_object_key(fact), fact.body["etag"]][fact.header("ce_id")] = fact.body
        for version, different in published.items():
            if len(different) > self.system.put_counts[version] + self.system.put_counts[*version[:2], ANY_ETAG]:
                how = [(one.get("seen_by"), one.get("sequencer"), one["revision"]) for one in different.values()]
                yield f"{version}, stored {self.system.put_counts[version]} times, is told under more ids: {how}"

    def _dead_letters(self) -> list[Fact]:
        return self.system.kafka.read(*(topic.name for topic in dead_letter_topics_of(CONSUMERS)))

    def _unexpected_dead_letters(self, expected: Mapping[str, int]) -> Iterator[str]:
        later = sorted(self._dead_letters(), key=lambda fact: fact.header("dlq_at"))[self.dead_letters_before :]
        dead_letters = [dead_letter for dead_letter in later if not self._is_of_before(dead_letter)]
        if (codes := Counter(dead_letter.header("dlq_code") for dead_letter in dead_letters)) != Counter(expected):
            reasons = [one.header("dlq_reason") for one in dead_letters]
            yield f"dead letters {dict(codes)}, not {dict(expected)}: {reasons}"

    def _is_of_before(self, dead_letter: Fact) -> bool:
        """Tell whether a letter is about a record of an earlier test, which a service that starts now reads too."""
        partition, offset = dead_letter.header("dlq_partition"), dead_letter.header("dlq_offset")
        if not (partition.isdigit() and offset.isdigit()):
            return False
        return int(offset) < self.ends_before.get((dead_letter.header("dlq_topic"), int(partition)), 0)

    def _open_uploads(self) -> Iterator[str]:
        """The listing of uploads shows those of one key at a time in MinIO, so its folder is looked at."""
        folder = self.system.stack.state_dir / "minio" / "data" / ".minio.sys" / "multipart"
        for upload in folder.glob("*/*"):
            if (published := f"open upload {upload.name}") not in self.open_before:
                yield published

    def _leaks(self) -> Iterator[str]:
        """Secrets of the stack in any topic, log or table."""
        secrets = secrets_of(self.system.stack.env)
        canaries = [secret.encode() for secret in secrets]
        for fact in self.system.kafka.read(*self.system.kafka.names()):
            hashes = b"\n".join((fact.key or b"", fact.value or b"", *fact.headers.values()))
            if any(canary in hashes for canary in canaries):
                yield f"a secret on {fact.topic}/{fact.partition} at {fact.offset}"
        for log in (self.system.stack.state_dir / "logs").iterdir():
            if any(canary in log.read_bytes() for canary in canaries):
                yield f"a secret in {log.name}"
        yield from (f"a secret in {table}" for table in self.system.database.holding(secrets))


def lags_of(system: SystemUnderTest) -> dict[str, int]:
    """Return what is still to be read, where that is anything: by those of every world, and by whoever else runs."""
    running = {name.partition("-")[0] for name, one in system.stack.processes.items() if one.running}
    groups = {service: topics for service, topics in GROUPS.items() if service in running | ALWAYS_RUNNING}
    return {group: lag for group, lag in system.kafka.lag(groups).items() if lag}


def secrets_of(env: Mapping[str, str]) -> list[str]:
    """Return the values that may stand nowhere."""
    return sorted({value for name, value in env.items() if any(word in name for word in _SECRET_WORDS)})


def _object_key(fact: Fact) -> ObjectKey:
    return fact.body["bucket"], fact.body["key"]


def _is_done(row: Any, etag: str, size: int) -> bool:
    return row is not None and (row["status"], row["etag"], row["size"]) == ("succeeded", etag, size)


def _claims(row: Any) -> bool:
    return row["status"] in {"pending", "running", "succeeded"}
