"""Which lanes to walk, in what order, and from where. Values only; knows nothing of the database.

A claim walks some lanes at most, and the lanes of one priority stand in the order of their turns: sorting a
thousand of them for each claim took as long as the claim.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from itertools import islice
from typing import Protocol
from uuid import UUID

from pgqueue.options.run_time import Settings
from pgqueue.store import Lane

LATE = 256
"""How far below the last claimed position the next claim starts. Enqueues that overlap do not commit in the
order of their positions; a sweep finds the jobs that commit even later than this."""
WALK_LIMIT = 64
"""Maximum number of lanes that one claim walks. The next claim continues behind them."""
PAGE = 2000
"""Maximum number of lanes that one sweep looks at. The next sweep continues behind them."""


class InLane(Protocol):
    """An attempt, as far as a book of lanes is concerned."""

    lane: Lane


class LaneBook:
    """What one worker remembers of its lanes.

    All of it is a hint: the next sweep looks at lanes that are believed empty, and corrects positions that
    are remembered too high. A walk costs what it walks, however many lanes there are.
    """

    def __init__(self) -> None:
        self.lanes: dict[int, Lane] = {}
        """All known lanes, by id. A lane never changes."""
        self._positions: dict[int, int] = {}
        self._active: dict[int, OrderedDict[int, None]] = {}
        """By priority, the lanes that are believed to have jobs; the one whose turn is next comes first."""
        self._settings = Settings()
        self._woken: set[int] = set()
        """Those that were announced since the last look began: it may have come too early for them."""
        self.own: set[int] = set()
        """Those into which this worker has let jobs through, and which it has not walked since."""
        self.after = 0
        """The lane behind which the next sweep goes on; 0: it begins anew."""

    def learn(self, lanes: Iterable[Lane]) -> None:
        """Take note of the lanes that there are."""
        for lane in lanes:
            self.lanes.setdefault(lane.id, lane)

    def learn_page(self, page: Sequence[Lane]) -> list[int]:
        """Take note of the first lanes behind `after`, at most PAGE; return those to sweep.

        Known lanes that would be among them and are not were removed: they are forgotten.
        """
        self._woken.clear()
        first, there = self.after, {lane.id for lane in page}
        self.after = page[-1].id if len(page) == PAGE else 0
        for lane_id in [each for each in self.lanes if each > first and each not in there]:
            if not self.after or lane_id < self.after:
                self._rest(lane_id)
                self._positions.pop(lane_id, None)
                del self.lanes[lane_id]
        self.learn(page)
        stops = self._settings.stops
        return [lane.id for lane in page if not stops(lane.queue, lane.task)]

    def heed(self, settings: Settings) -> None:
        """Skip the lanes that *settings* pause, from now on."""
        self._settings = settings
        self._keep_active(set(self.ids))

    @property
    def ids(self) -> list[int]:
        """All known lanes but the paused ones."""
        stops = self._settings.stops
        return [lane.id for lane in self.lanes.values() if not stops(lane.queue, lane.task)]

    @property
    def has_fair(self) -> bool:
        """Whether any queue is fair, of this worker or not."""
        return bool(self._settings.fair_queues)

    @property
    def fair_ids(self) -> list[int]:
        """The known lanes of fair queues, but the paused ones."""
        stops, fair = self._settings.stops, self._settings.fair_queues
        return [
            lane.id
            for lane in self.lanes.values()
            if lane.queue in fair and not lane.task and not stops(lane.queue, "")
        ]

    def knows(self, lane_id: int) -> bool:
        """Whether the lane is known."""
        return lane_id in self.lanes

    @property
    def has_active(self) -> bool:
        """Whether any lane is believed to have jobs."""
        return bool(self._active)

    @property
    def may_claim(self) -> bool:
        """Whether there is a lane to walk now."""
        return bool(self._active)

    def count(self, attempts: Iterable[InLane]) -> None:
        """Count what is under way, where queues have slots of their own."""

    def limit(self, free: int, walk: Sequence[tuple[int, int]]) -> int:  # noqa: ARG002  # all share the slots
        """Return how many jobs a claim on this walk may bring where *free* slots are."""
        return free

    def groups(self, lane_ids: Sequence[int], free: int) -> Iterable[tuple[Sequence[int], int]]:
        """Return which of these lanes have slots together, with the limit of a claim of each."""
        return ((lane_ids, free),)

    def take(self, lane_ids: Collection[int]) -> None:
        """Count jobs of these lanes, one each time, as running from now on."""

    def wake(self, lane_id: int) -> None:
        """Believe that a lane has jobs."""
        lane = self.lanes.get(lane_id)
        if lane is not None and not self._settings.stops(lane.queue, lane.task):
            self._woken.add(lane_id)
            self._active.setdefault(lane.priority, OrderedDict()).setdefault(lane_id)

    def walk(self) -> list[tuple[int, int]]:
        """Return (lane, position) pairs for a claim: higher priorities first, equal ones taking turns."""
        self._woken.clear()
        order: list[int] = []
        for priority in sorted(self._active, reverse=True):
            equal = self._active[priority]
            order += islice(equal, WALK_LIMIT - len(order))
            equal.move_to_end(next(iter(equal)))
            if len(order) == WALK_LIMIT:
                break
        return [(lane_id, self._positions.get(lane_id, 0)) for lane_id in order]

    def in_order(self, jobs: Iterable[tuple[UUID, int, int, int]]) -> list[tuple[UUID, int]]:
        """Return (id, losses) of jobs, given as (id, lane, position, losses), in their order.

        Statements return them as they lie in the table: where its room was used again, or by another plan, a
        job once started before one that was enqueued earlier.
        """
        lanes = self.lanes
        ordered = sorted(jobs, key=lambda job: (-lanes[job[1]].priority, job[2]))
        return [(job_id, losses) for job_id, _, _, losses in ordered]

    def claimed(
        self, walk: Iterable[tuple[int, int]], jobs: Iterable[tuple[int, int]], *, limit: int
    ) -> None:
        """Learn from the (lane, position) pairs that a claim of *limit* jobs brought.

        It stops at the limit, so fewer jobs mean that every lane of the walk is exhausted; with as many,
        those before the last lane that gave any. What was announced meanwhile is walked again.
        """
        last: dict[int, int] = {}
        count = 0
        for lane_id, position in jobs:
            count += 1
            # Positions written by hand can be negative.
            if position >= last.get(lane_id, position):
                last[lane_id] = position
        for lane_id, position in last.items():
            self._positions[lane_id] = max(self._positions.get(lane_id, 0), position - LATE)
        walked = [lane_id for lane_id, _ in walk]
        if count >= limit:
            walked = walked[: max(index for index, lane_id in enumerate(walked) if lane_id in last)]
        for lane_id in walked:
            if lane_id not in self._woken:
                self._rest(lane_id)
        if self.own:
            self.own -= {*walked, *last} - self._woken

    def swept(self, firsts: Mapping[int, int], looked_at: Collection[int]) -> None:
        """Learn from a sweep of the lanes *looked_at*: the first position of each that has jobs."""
        self._positions.update(firsts)
        for lane_id in looked_at:
            if lane_id not in firsts and lane_id not in self._woken:
                self._rest(lane_id)
        # Lanes that are active already keep their places, or the first ones would have all the turns.
        for lane_id in firsts:
            self.wake(lane_id)

    def _keep_active(self, lane_ids: Container[int]) -> None:
        active = [lane_id for equal in self._active.values() for lane_id in equal]
        for lane_id in active:
            if lane_id not in lane_ids:
                self._rest(lane_id)

    def _rest(self, lane_id: int) -> None:
        """Believe that a lane is empty."""
        priority = self.lanes[lane_id].priority
        if equal := self._active.get(priority):
            equal.pop(lane_id, None)
            if not equal:
                del self._active[priority]
