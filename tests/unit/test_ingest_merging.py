"""Model test: whatever the lanes deliver, known objects and facts end up equal to the bucket.

The model has a bucket with a history, two lanes that deliver each event at any time, in any order and repeatedly,
sweeps in between, and crashes between publish and save.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from services.ingest.core import decisions, sweeps
from services.ingest.core.decisions import CurrentState, KnownObject, Outcome
from services.ingest.core.notifications import Hint, ObjectNotification
from services.ingest.core.sweeps import ListedObject
from shared.events import ObjectChanged

BUCKET = "inbox"
KEYS = ("a", "b")
START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(milliseconds=300)  # several changes within the one second of a Last-Modified


@dataclass
class Stored:
    etag: str
    version: str | None
    at: datetime

    def state(self, *, described: bool) -> CurrentState:
        return CurrentState(self.etag, self.at.replace(microsecond=0), self.version, size=1 if described else None)


@dataclass
class Marker:
    version: str


@dataclass
class ModelBucket:
    """A bucket with or without versioning, and its events; the newest version of each key comes last."""

    versioned: bool
    versions: dict[str, list[Stored | Marker]] = field(default_factory=lambda: {key: [] for key in KEYS})
    events: list[ObjectChanged] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return START + TICK * len(self.events)

    @property
    def current(self) -> dict[str, Stored]:
        newest = {key: versions[-1] for key, versions in self.versions.items() if versions}
        return {key: one for key, one in newest.items() if isinstance(one, Stored)}

    def put(self, key: str, content: str) -> None:
        version = f"v{len(self.events)}" if self.versioned else None
        self._add(key, Stored(content, version, self.now))
        self._add_event("stored", key, version, content)

    def delete(self, key: str) -> None:
        if self.versioned:
            self._add(key, Marker(f"m{len(self.events)}"))
            self._add_event("removed", key, None, None, hint="inspect")
        else:
            self.versions[key].clear()
            self._add_event("removed", key, None, None)

    def delete_nothing(self, key: str) -> None:
        self._add_event("removed", key, None, None, hint="nothing removed")

    def purge(self, key: str, at: int) -> None:
        """Remove a version or a delete marker permanently."""
        removed = self.versions[key].pop(at)
        if isinstance(removed, Stored):
            self._add_event("removed", key, removed.version, None)
        else:
            self._add_event("removed", key, None, None, hint="inspect")

    def state(self, key: str, version: str | None, *, described: bool) -> CurrentState | None:
        if version is None:
            current = self.current.get(key)
        else:
            stored = [one for one in self.versions[key] if isinstance(one, Stored)]
            current = next((one for one in stored if one.version == version), None)
        return current.state(described=described) if current else None

    def _add(self, key: str, version: Stored | Marker) -> None:
        if not self.versioned:
            self.versions[key].clear()
        self.versions[key].append(version)

    def _add_event(
        self, change: str, key: str, version: str | None, etag: str | None, hint: Hint | None = None
    ) -> None:
        self.events.append(
            ObjectNotification(
                hint=hint,
                change=change,
                bucket=BUCKET,
                key=key,
                version_id=version,
                etag=etag,
                size=1 if etag else None,
                sequencer=f"18A{len(self.events):05X}",
                occurred_at=self.now,
                correlation_id=f"born-{len(self.events)}",
            )
        )


class Merging(RuleBasedStateMachine):
    """Ingest's core and a model bucket; `known` stands for Postgres, `facts` for the topic."""

    versioned = False
    described = True

    @initialize()
    def begin(self) -> None:
        self.bucket = ModelBucket(self.versioned)
        self.known: dict[tuple[str, str], KnownObject] = {}
        self.facts: list[ObjectChanged] = []
        self.pending: list[ObjectChanged] = []
        self.delivered: set[int] = set()
        self.clock = 0

    @rule(key=st.sampled_from(KEYS), content=st.sampled_from(["A", "B"]))
    def put(self, key: str, content: str) -> None:
        self.bucket.put(key, content)

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        if key in self.bucket.current:
            self.bucket.delete(key)

    @rule(key=st.sampled_from(KEYS))
    def delete_nothing(self, key: str) -> None:
        if not self.bucket.versions[key]:
            self.bucket.delete_nothing(key)

    @precondition(lambda self: self.versioned and any(self.bucket.versions.values()))
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        """Permanently remove a version or a delete marker, so an older version may be current again."""
        every = [(key, at) for key in KEYS for at in range(len(self.bucket.versions[key]))]
        self.bucket.purge(*data.draw(st.sampled_from(every)))

    @precondition(lambda self: self.bucket.events)
    @rule(data=st.data(), crash=st.booleans())
    def deliver(self, data: st.DataObject, *, crash: bool) -> None:
        """Deliver a batch of either lane's copies in any order; after a crash it does not count as delivered."""
        every = range(len(self.bucket.events))
        batch = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=6))
        lanes = data.draw(st.lists(st.sampled_from(["live", "safe"]), min_size=len(batch), max_size=len(batch)))
        copies = [self._copy(event, lane) for event, lane in zip(batch, lanes, strict=True)]
        outcome = self._decide(copies)
        if not crash:
            self.pending += outcome.to_verify
            self._save(outcome)
            self.delivered |= set(batch)

    @rule(crash=st.booleans())
    def verify_pending(self, *, crash: bool) -> None:
        """Verify due notifications finally, whether or not the removal was published by then."""
        outcome = self._decide(self.pending)
        if not crash:
            self.pending = []
            self._save(outcome)

    @rule(crash=st.booleans())
    def sweep(self, *, crash: bool) -> None:
        listed = {
            key: ListedObject(key, one.etag, 1, one.at, version_id=one.version, has_version=self.versioned)
            for key, one in self.bucket.current.items()
        }
        known_by_key = {key: state for (_, key), state in self.known.items()}
        missed = sweeps.find_missed(listed, known_by_key, settled_before=datetime.max.replace(tzinfo=UTC))
        found = [self._found(key) for key in missed]
        vanished = [key for key, state in known_by_key.items() if state.state == "stored" and key not in listed]
        outcome = self._decide(found + [sweeps.removal_of(BUCKET, key) for key in vanished])
        if not crash:
            self._save(outcome)

    def teardown(self) -> None:
        """Deliver the missing events, verify all pending notifications, and compare."""
        if not hasattr(self, "bucket"):
            return
        missing = sorted(set(range(len(self.bucket.events))) - self.delivered)
        outcome = self._decide([self._copy(event, "safe") for event in missing])
        self._save(outcome)
        last = self._decide(self.pending + outcome.to_verify)
        self._save(last)
        assert not last.to_verify, "a genuine event would be a dead letter"
        for key in {one.key for one in self.bucket.events}:
            self._assert_equal_to_bucket(key)

    def _assert_equal_to_bucket(self, key: str) -> None:
        current = self.bucket.current.get(key)
        expected = ("stored", current.etag, current.version) if current else ("removed", None, None)
        known = self.known[BUCKET, key]
        assert (known.state, known.etag, known.version_id) == expected
        facts = [one for one in self.facts if one.key == key and self._is_current(one)]
        if known.announced:
            newest = max(facts, key=lambda one: one.revision)
            assert (newest.change, newest.etag, newest.version_id) == expected
        else:
            assert not facts

    def _is_current(self, fact: ObjectChanged) -> bool:
        return fact.change == "stored" or fact.version_id is None

    def _copy(self, event: int, lane: str) -> ObjectChanged:
        return self.bucket.events[event].model_copy(update={"seen_by": lane})

    def _found(self, key: str) -> ObjectChanged:
        current = self.bucket.current[key]
        return ObjectChanged(
            change="stored",
            bucket=BUCKET,
            key=key,
            version_id=current.version,
            etag=current.etag,
            size=1,
            seen_by="sweep",
            occurred_at=current.at,
            correlation_id=f"swept-{current.at}",
        )

    def _decide(self, notifications: list[ObjectChanged]) -> Outcome:
        """Like the service: ask the bucket where the known object does not suffice, decide, publish."""
        self.clock += 10
        asked = [
            one for one in notifications if decisions.decide_from_known(self.known.get((BUCKET, one.key)), one) is None
        ]
        outcome = decisions.decide_all(notifications, self.known, self._current_states(asked), clock=self.clock)
        assert not outcome.rejected, "a genuine removal would be rejected as forged"
        self.facts += outcome.facts
        return outcome

    def _current_states(self, notifications: list[ObjectChanged]) -> dict[decisions.VersionKey, CurrentState | None]:
        """Like the bucket adapter: describe the object of a removal in any case."""
        current_states = {}
        for one in sorted(notifications, key=lambda one: one.change == "removed"):
            described = self.described or one.change == "removed"
            current_states[decisions.current_version_of(one)] = self.bucket.state(one.key, None, described=described)
        for one in notifications:
            if one.version_id is not None and (self.described or one.change == "removed"):
                version = self.bucket.state(one.key, one.version_id, described=one.change == "stored")
                current_states[BUCKET, one.key, one.version_id] = version
        return current_states

    def _save(self, outcome: Outcome) -> None:
        """Like Postgres: an older revision never replaces a newer one, and sequencers only rise."""
        for key, (_, state) in outcome.states.items():
            if key not in self.known or self.known[key].revision < state.revision:
                self.known[key] = state
        for late in outcome.adopted:
            key = decisions.object_key_of(late)
            known = self.known[key]
            if decisions.sequencer_order(known.sequencer or "") < decisions.sequencer_order(late.sequencer or ""):
                self.known[key] = replace(known, sequencer=late.sequencer)


class MergingVersions(Merging):
    """The same with versioning: overwritten versions stay readable and may be purged."""

    versioned = True


class MergingTrusted(MergingVersions):
    """The same with trusted notifications: the bucket describes only what it must."""

    described = False


_many_examples = settings(
    max_examples=150, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestMerging = Merging.TestCase
TestMerging.settings = _many_examples
TestMergingVersions = MergingVersions.TestCase
TestMergingVersions.settings = _many_examples
TestMergingTrusted = MergingTrusted.TestCase
TestMergingTrusted.settings = _many_examples
