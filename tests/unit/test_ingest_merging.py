"""Whatever the lanes do, what ingest knows and tells in the end is what the bucket holds.

A model: a bucket with a history, two lanes that bring each event at any time, in any order and more than once, sweeps
in between, and crashes between telling and remembering.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from services.ingest.core import decisions, sweeps
from services.ingest.core.decisions import Known, Outcome, Truth
from services.ingest.core.notices import Hint, Notice
from services.ingest.core.sweeps import Listed
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

    def truth(self, *, described: bool) -> Truth:
        return Truth(self.etag, self.at.replace(microsecond=0), self.version, size=1 if described else None)


@dataclass
class Marker:
    version: str


@dataclass
class ModelBucket:
    """A bucket, with versions or without, and the events of its history; of each key the newest version comes last."""

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
        self._tell("stored", key, version, content)

    def delete(self, key: str) -> None:
        if self.versioned:
            self._add(key, Marker(f"m{len(self.events)}"))
            self._tell("removed", key, None, None, hint="look")
        else:
            self.versions[key].clear()
            self._tell("removed", key, None, None)

    def delete_nothing(self, key: str) -> None:
        self._tell("removed", key, None, None, hint="nothing removed")

    def purge(self, key: str, at: int) -> None:
        """Remove a version, or a delete marker, for good."""
        gone = self.versions[key].pop(at)
        if isinstance(gone, Stored):
            self._tell("removed", key, gone.version, None)
        else:
            self._tell("removed", key, None, None, hint="look")

    def truth(self, key: str, version: str | None, *, described: bool) -> Truth | None:
        if version is None:
            here = self.current.get(key)
        else:
            kept = [one for one in self.versions[key] if isinstance(one, Stored)]
            here = next((one for one in kept if one.version == version), None)
        return here.truth(described=described) if here else None

    def _add(self, key: str, version: Stored | Marker) -> None:
        if not self.versioned:
            self.versions[key].clear()
        self.versions[key].append(version)

    def _tell(self, change: str, key: str, version: str | None, etag: str | None, hint: Hint | None = None) -> None:
        self.events.append(
            Notice(
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
    """Ingest's core around a model bucket; `known` is Postgres, `facts` the topic."""

    versioned = False
    described = True

    @initialize()
    def begin(self) -> None:
        self.bucket = ModelBucket(self.versioned)
        self.known: dict[tuple[str, str], Known] = {}
        self.facts: list[ObjectChanged] = []
        self.doubts: list[ObjectChanged] = []
        self.brought: set[int] = set()
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
        """A version goes for good, the current one or another, or a delete marker: then an older one is current."""
        every = [(key, at) for key in KEYS for at in range(len(self.bucket.versions[key]))]
        self.bucket.purge(*data.draw(st.sampled_from(every)))

    @precondition(lambda self: self.bucket.events)
    @rule(data=st.data(), crash=st.booleans())
    def bring(self, data: st.DataObject, *, crash: bool) -> None:
        """A batch of either lane's copies, in any order; after a crash none of it counts as brought."""
        every = range(len(self.bucket.events))
        batch = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=6))
        lanes = data.draw(st.lists(st.sampled_from(["live", "safe"]), min_size=len(batch), max_size=len(batch)))
        copies = [self._copy(event, lane) for event, lane in zip(batch, lanes, strict=True)]
        outcome = self._judge(copies)
        if not crash:
            self.doubts += outcome.doubtful
            self._remember(outcome)
            self.brought |= set(batch)

    @rule(crash=st.booleans())
    def settle_doubts(self, *, crash: bool) -> None:
        """Doubts that came due are judged for the last time, be the removal told by then or not."""
        outcome = self._judge(self.doubts)
        if not crash:
            self.doubts = []
            self._remember(outcome)

    @rule(crash=st.booleans())
    def sweep(self, *, crash: bool) -> None:
        listed = {
            key: Listed(key, one.etag, 1, one.at, version_id=one.version, has_version=self.versioned)
            for key, one in self.bucket.current.items()
        }
        mine = {key: state for (_, key), state in self.known.items()}
        missed = sweeps.missed(listed, mine, settled_before=datetime.max.replace(tzinfo=UTC))
        found = [self._found(key) for key in missed]
        gone = [key for key, state in mine.items() if state.state == "stored" and key not in listed]
        outcome = self._judge(found + [sweeps.gone(BUCKET, key) for key in gone])
        if not crash:
            self._remember(outcome)

    def teardown(self) -> None:
        """Bring what was not brought yet, settle every doubt, and compare."""
        if not hasattr(self, "bucket"):
            return
        missing = sorted(set(range(len(self.bucket.events))) - self.brought)
        outcome = self._judge([self._copy(event, "safe") for event in missing])
        self._remember(outcome)
        last = self._judge(self.doubts + outcome.doubtful)
        self._remember(last)
        assert not last.doubtful, "a genuine event would end as a dead letter"
        for key in {one.key for one in self.bucket.events}:
            self._assert_right(key)

    def _assert_right(self, key: str) -> None:
        here = self.bucket.current.get(key)
        truth = ("stored", here.etag, here.version) if here else ("removed", None, None)
        known = self.known[BUCKET, key]
        assert (known.state, known.etag, known.version_id) == truth
        facts = [one for one in self.facts if one.key == key and self._is_current(one)]
        if known.announced:
            told = max(facts, key=lambda one: one.revision)
            assert (told.change, told.etag, told.version_id) == truth
        else:
            assert not facts

    def _is_current(self, fact: ObjectChanged) -> bool:
        return fact.change == "stored" or fact.version_id is None

    def _copy(self, event: int, lane: str) -> ObjectChanged:
        return self.bucket.events[event].model_copy(update={"seen_by": lane})

    def _found(self, key: str) -> ObjectChanged:
        here = self.bucket.current[key]
        return ObjectChanged(
            change="stored",
            bucket=BUCKET,
            key=key,
            version_id=here.version,
            etag=here.etag,
            size=1,
            seen_by="sweep",
            occurred_at=here.at,
            correlation_id=f"swept-{here.at}",
        )

    def _judge(self, notices: list[ObjectChanged]) -> Outcome:
        """As the service does: ask the bucket about what memory does not settle, judge, tell."""
        self.clock += 10
        asked = [one for one in notices if decisions.is_told(self.known.get((BUCKET, one.key)), one) is None]
        outcome = decisions.judge(notices, self.known, self._truths(asked), clock=self.clock)
        assert not outcome.false, "a genuine removal would be called forged"
        self.facts += outcome.facts
        return outcome

    def _truths(self, notices: list[ObjectChanged]) -> dict[decisions.Version, Truth | None]:
        """As the bucket's adapter does: what a removal asks about is always described."""
        truths = {}
        for one in sorted(notices, key=lambda one: one.change == "removed"):
            described = self.described or one.change == "removed"
            truths[decisions.current_of(one)] = self.bucket.truth(one.key, None, described=described)
        for one in notices:
            if one.version_id is not None and (self.described or one.change == "removed"):
                own = self.bucket.truth(one.key, one.version_id, described=one.change == "stored")
                truths[BUCKET, one.key, one.version_id] = own
        return truths

    def _remember(self, outcome: Outcome) -> None:
        """As Postgres does: an older revision never replaces a newer one, a late sequencer only fills a gap."""
        for place, (_, state) in outcome.states.items():
            if place not in self.known or self.known[place].revision < state.revision:
                self.known[place] = state
        for late in outcome.adopted:
            place = decisions.place_of(late)
            mine = self.known[place]
            if decisions.order(mine.sequencer or "") < decisions.order(late.sequencer or ""):
                self.known[place] = replace(mine, sequencer=late.sequencer)


class MergingVersions(Merging):
    """The same with versions: overwritten ones stay readable, and may be purged."""

    versioned = True


class MergingTrusted(MergingVersions):
    """The same where notifications are trusted, so that the bucket describes only what it has to."""

    described = False


_often = settings(
    max_examples=150, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestMerging = Merging.TestCase
TestMerging.settings = _often
TestMergingVersions = MergingVersions.TestCase
TestMergingVersions.settings = _often
TestMergingTrusted = MergingTrusted.TestCase
TestMergingTrusted.settings = _often
