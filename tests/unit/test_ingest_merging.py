"""Whatever the lanes do, what ingest knows and tells in the end is what the bucket holds.

A model: a bucket with a history, two lanes that bring each event at any time, in any order and more than once, sweeps
in between, and crashes between telling and remembering.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from services.ingest.core import decisions, sweeps
from services.ingest.core.decisions import Known, Outcome, Truth
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

    @property
    def truth(self) -> Truth:
        return Truth(self.etag, self.at.replace(microsecond=0), self.version)


@dataclass
class ModelBucket:
    """A bucket, with versions or without, and the events of its history."""

    versioned: bool
    current: dict[str, Stored] = field(default_factory=dict)
    old: dict[tuple[str, str], Stored] = field(default_factory=dict)
    events: list[ObjectChanged] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return START + TICK * len(self.events)

    def put(self, key: str, content: str) -> None:
        self._shelve(key)
        version = f"v{len(self.events)}" if self.versioned else None
        self.current[key] = Stored(content, version, self.now)
        self._tell("stored", key, version, content)

    def delete(self, key: str) -> None:
        self._shelve(key)
        self.current.pop(key, None)
        self._tell("removed", key, None, None)

    def purge(self, key: str, version: str) -> None:
        del self.old[key, version]
        self._tell("removed", key, version, None)

    def truth(self, key: str, version: str | None) -> Truth | None:
        here = self.current.get(key)
        if version is not None and (here is None or here.version != version):
            here = self.old.get((key, version))
        return here.truth if here else None

    def _shelve(self, key: str) -> None:
        if self.versioned and (before := self.current.get(key)) is not None:
            self.old[key, before.version] = before

    def _tell(self, change: str, key: str, version: str | None, etag: str | None) -> None:
        self.events.append(
            ObjectChanged(
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

    @precondition(lambda self: self.bucket.old)
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        self.bucket.purge(*data.draw(st.sampled_from(sorted(self.bucket.old))))

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
        listed = {key: Listed(key, one.etag, 1, one.at) for key, one in self.bucket.current.items()}
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
        told = max(
            (one for one in self.facts if one.key == key and self._is_current(one)), key=lambda one: one.revision
        )
        assert (known.state, known.etag, known.version_id) == truth
        assert (told.change, told.etag, told.version_id) == truth

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
        truths = {one: self.bucket.truth(*one[1:]) for one in map(decisions.version_of, asked)}
        outcome = decisions.judge(notices, self.known, truths, clock=self.clock)
        assert not outcome.false, "a genuine removal would be called forged"
        self.facts += outcome.facts
        return outcome

    def _remember(self, outcome: Outcome) -> None:
        """As Postgres does: an older revision never replaces a newer one, a late sequencer only fills a gap."""
        for place, (_, state) in outcome.states.items():
            if place not in self.known or self.known[place].revision < state.revision:
                self.known[place] = state
        for late in outcome.adopted:
            place = decisions.place_of(late)
            if self.known[place].sequencer is None:
                mine = self.known[place]
                self.known[place] = Known(
                    mine.state, mine.version_id, mine.etag, late.sequencer, mine.revision, mine.correlation_id
                )


class MergingVersions(Merging):
    """The same with versions: overwritten ones stay readable, and may be purged."""

    versioned = True


_often = settings(
    max_examples=150, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestMerging = Merging.TestCase
TestMerging.settings = _often
TestMergingVersions = MergingVersions.TestCase
TestMergingVersions.settings = _often
