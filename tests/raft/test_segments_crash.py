"""The promise of the log, tried with dice: whatever was going on at the crash, what was durable is there.

A plain list is the model. Every change makes a new version of it; after a crash the log must be a prefix of one of the
versions that may have reached the disk, and not shorter than what that version calls durable.
"""

import contextlib
import random
from dataclasses import dataclass, field, replace

import pytest

from raft.batches import Batch
from raft.records import Entry
from raft.segments import Log
from tests.sim.disk import PowerCut, SimDisk
from tests.sim.logs import held

SEGMENT_BYTES = 700


@dataclass(frozen=True, slots=True)
class Version:
    """What the log held at some time. Entries below the base may be there or released. Floor: surely durable."""

    base: int
    base_term: int
    generation: int = 0  # how often the log was reset
    entries: tuple[Entry, ...] = ()
    floor: int = 0

    @property
    def last(self) -> int:
        return self.base + len(self.entries)

    @property
    def term(self) -> int:
        return self.entries[-1].term if self.entries else self.base_term

    def lowered(self, index: int) -> "Version":
        """Nothing above `index` is promised any more: a truncation may have begun."""
        return replace(self, floor=max(self.base, min(self.floor, index)))

    def allows(self, log: Log) -> bool:
        """Whether a log that was opened after the crash can be what is left of this version."""
        first, last = log.base[0] + 1, log.last[0]
        if first <= self.base or not self.floor <= last <= self.last:
            return False
        return held(log) == list(self.entries[first - self.base - 1 : last - self.base])


@dataclass(slots=True)
class Rig:
    """A log and its model, driven by one seed."""

    rng: random.Random
    disk: SimDisk
    log: Log
    versions: list[Version] = field(
        default_factory=lambda: [Version(1, 0, floor=1)]
    )  # the first: surely on disk
    in_flight: Batch | None = None
    flying: int = 0  # how many versions the batch in flight covers

    @property
    def model(self) -> Version:
        return self.versions[-1]

    def append(self) -> None:
        model = self.model
        for _ in range(self.rng.randrange(1, 8)):
            size = self.rng.choice((0, 10, 100, 5_000))
            term = model.term + (self.rng.random() < 0.1)
            entry = Entry(model.last + 1, term, self.rng.randrange(3), self.rng.randbytes(size))
            self.log.append(entry.index, entry.term, entry.kind, entry.payload)
            model = replace(model, entries=(*model.entries, entry))
            self.versions.append(model)

    def truncate(self) -> None:
        if self.log.last[0] > self.log.base[0]:
            index = self.rng.randrange(max(self.log.base[0] + 1, self.log.last[0] - 12), self.log.last[0] + 1)
            self.log.truncate(index)
            now = self.model.generation
            self.versions = [v.lowered(index - 1) if v.generation == now else v for v in self.versions]
            kept = self.model.entries[: index - self.model.base - 1]
            self.versions.append(replace(self.model, entries=kept))

    def reset(self) -> None:
        index, term = self.log.last[0] + self.rng.randrange(-5, 10), self.model.term
        if index > 0:
            self.log.reset(index, term)
            self.versions.append(Version(index, term, self.model.generation + 1, floor=index))

    def release(self) -> None:
        self.log.release(self.rng.randrange(self.log.last[0] + 1))

    def take(self) -> None:
        if self.in_flight is None:
            self.in_flight = self.log.take()
            self.flying = len(self.versions)

    def write(self) -> None:
        if self.in_flight is not None:
            self.log.write(self.in_flight)
            self.log.written(self.in_flight)
            self.in_flight = None
            done = self.versions[self.flying - 1]
            self.versions = [done, *self.versions[self.flying :]]
            for number, version in enumerate(self.versions):
                if version.generation == done.generation:
                    shortest = min(v.last for v in self.versions if v.generation == done.generation)
                    self.versions[number] = replace(version, floor=min(done.last, shortest))

    def check(self) -> None:
        """While it is open, the log is the model."""
        log, model = self.log, self.model
        assert log.last == (model.last, model.term)
        assert held(log) == list(model.entries[log.base[0] - model.base :])
        reset_pending = self.versions[0].generation != model.generation
        assert log.durable == (0 if reset_pending else model.floor)

    def crash(self) -> None:
        self.disk.crash(power_loss=self.rng.random() < 0.7, torn=self.rng.random() < 0.5)
        self.log = open_log(self.disk)
        candidates = self.versions if self.in_flight is None else self.versions[: self.flying]
        possible = [version for version in candidates if version.allows(self.log)]
        assert possible, (self.log.base, self.log.last, candidates)
        assert self.log.durable == self.log.last[0]
        entries = held(self.log)
        version = possible[0]
        known = version.entries[: self.log.last[0] - version.base]
        self.versions = [replace(version, entries=known, floor=self.log.last[0])]
        assert entries == list(known[len(known) - len(entries) :])
        self.in_flight = None


def open_log(disk: SimDisk) -> Log:
    return Log.open(disk, segment_bytes=SEGMENT_BYTES, cache_bytes=2_000)


def rig(seed: int) -> Rig:
    rng = random.Random(seed)
    disk = SimDisk(rng)
    return Rig(rng, disk, open_log(disk))


ACTIONS = {"append": 8, "truncate": 2, "reset": 1, "release": 1, "take": 5, "write": 5, "mark": 2, "crash": 2}


@pytest.mark.parametrize("seed", range(150))
def test_what_is_durable_survives_every_crash_and_nothing_else_appears(seed: int) -> None:
    tried = rig(seed)
    names = tried.rng.choices(list(ACTIONS), weights=list(ACTIONS.values()), k=120)
    for name in names:
        try:
            if name == "write" and tried.rng.random() < 0.3:
                tried.disk.cut_after = tried.rng.randrange(12)
            tried.log.mark() if name == "mark" else getattr(tried, name)()
        except PowerCut:
            tried.crash()
        tried.disk.cut_after = None
        tried.check()


@pytest.mark.parametrize("power_loss", [False, True])
@pytest.mark.parametrize(
    "change", ["append", "rotate", "truncate", "release", "reset", "truncate and append"]
)
def test_a_crash_after_every_single_step_of_a_change_leaves_the_old_log_or_the_new(
    change: str, power_loss: bool
) -> None:
    steps = 0
    while True:
        tried = rig(steps)
        for _ in range(6):
            tried.append()
            tried.take()
            tried.write()
        tried.log.mark()
        tried.take()
        tried.write()
        old_base = tried.log.base
        perform(tried, change)
        tried.take()
        tried.disk.cut_after = steps
        try:
            tried.write()
        except PowerCut:
            tried.disk.crash(power_loss=power_loss, torn=True)
            opened = open_log(tried.disk)
            assert any(version.allows(opened) for version in tried.versions)
            assert change == "release" or opened.base in (old_base, tried.log.base)
            steps += 1
        else:
            break
    assert steps >= (2 if change == "append" else 3)


def perform(tried: Rig, change: str) -> None:
    if change == "rotate":
        for _ in range(5):
            tried.append()
    elif change == "truncate and append":
        tried.truncate()
        tried.append()
    elif change == "release":
        tried.log.release(tried.log.last[0])
    else:
        getattr(tried, change)()


def test_opening_makes_durable_what_a_killed_process_left_in_the_page_cache() -> None:
    for seed in range(30):
        disk = SimDisk(random.Random(seed))
        log = open_log(disk)
        log.append(2, 1, 1, b"x")
        batch = log.take()
        assert batch is not None
        disk.cut_after = 1
        with pytest.raises(PowerCut):
            log.write(batch)
        disk.crash(power_loss=False, torn=False)
        opened = open_log(disk)
        assert opened.durable == 2

        disk.crash(power_loss=True, torn=False)

        assert open_log(disk).last == (2, 1)


@pytest.mark.parametrize("change", ["append", "truncate", "reset"])
def test_more_crashes_while_opening_lose_nothing_more(change: str) -> None:
    for seed in range(120):
        tried = rig(seed)
        for _ in range(5):
            tried.append()
            tried.take()
            tried.write()
        perform(tried, change)
        tried.take()
        tried.disk.cut_after = seed % 12
        with contextlib.suppress(PowerCut):
            tried.write()
        tried.disk.crash(power_loss=False, torn=True)
        for steps in range(6):
            tried.disk.cut_after = steps
            with contextlib.suppress(PowerCut):
                open_log(tried.disk)
            tried.disk.crash(power_loss=tried.rng.random() < 0.5, torn=True)
        opened = open_log(tried.disk)
        assert any(version.allows(opened) for version in tried.versions)
