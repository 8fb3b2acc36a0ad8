"""The lanes of a worker whose queues have slots, or weights, of their own. Values only.

Each claim is for one group of queues: one that has slots of its own, as one statement has one limit, or all
that have none. So a queue that is full is left out, and nothing changes for a worker whose queues share all
slots: that one has a plain LaneBook.

Queues of one priority take turns by the jobs that were claimed from them, each divided by the queue's weight
(stride scheduling). A queue that was empty takes its turn anew: it has saved nothing up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from pgqueue.worker.claim.lanes import WALK_LIMIT, InLane, LaneBook


class SlottedBook(LaneBook):
    """What a worker remembers of its lanes, and how many jobs of each queue it runs.

    *slots*: at most so many jobs of a queue run at once; other queues take any free slot. *weights*: of a
    queue that is not named, 1.
    """

    def __init__(self, slots: Mapping[str, int], weights: Mapping[str, int]) -> None:
        super().__init__()
        self._slots = slots
        self._weights = weights
        self._running: Counter[str] = Counter()
        self._claimed: dict[str, float] = {}
        """Jobs claimed from each queue, divided by its weight."""
        self._least = 0.0
        """What the queue had whose turn came last: no other one begins with less."""

    def count(self, attempts: Iterable[InLane]) -> None:
        """Count what is under way of each queue."""
        self._running = Counter(attempt.lane.queue for attempt in attempts)

    @property
    def may_claim(self) -> bool:
        """Whether a lane is believed to have jobs whose queue has a free slot."""
        return any(self._is_open(lane_id) for equal in self._active.values() for lane_id in equal)

    @property
    def fair_ids(self) -> list[int]:
        """The known lanes of fair queues, but the paused ones and those of queues that are full."""
        return [lane_id for lane_id in super().fair_ids if self._is_open(lane_id)]

    def walk(self) -> list[tuple[int, int]]:
        """Return (lane, position) pairs for a claim: of the highest priority, of the queues in turn."""
        self._woken.clear()
        for priority in sorted(self._active, reverse=True):
            equal = self._active[priority]
            if found := [lane_id for lane_id in equal if self._is_open(lane_id)]:
                break
        else:
            return []
        for queue in {self.lanes[lane_id].queue for lane_id in found}:
            self._claimed[queue] = max(self._claimed.get(queue, 0.0), self._least)
        # Stable: lanes of one queue, and queues that have had as much, keep their turns.
        found.sort(key=lambda lane_id: self._claimed[self.lanes[lane_id].queue])
        first = self.lanes[found[0]].queue
        self._least = self._claimed[first]
        group = [lane_id for lane_id in found if self._are_claimed_together(first, self.lanes[lane_id].queue)]
        equal.move_to_end(group[0])
        return [(lane_id, self._positions.get(lane_id, 0)) for lane_id in group[:WALK_LIMIT]]

    def limit(self, free: int, walk: Sequence[tuple[int, int]]) -> int:
        """Return how many jobs a claim on this walk, of one group, may bring where *free* slots are."""
        return min([free, *(self._room(self.lanes[lane_id].queue, free) for lane_id, _ in walk)])

    def groups(self, lane_ids: Sequence[int], free: int) -> Iterator[tuple[list[int], int]]:
        """Return the lanes of each group that has a free slot, with the limit of each."""
        left = [lane_id for lane_id in lane_ids if lane_id in self.lanes]
        while left:
            first = self.lanes[left[0]].queue
            group = [each for each in left if self._are_claimed_together(first, self.lanes[each].queue)]
            left = [each for each in left if each not in group]
            if (limit := min(free, self._room(first, free))) > 0:
                yield group, limit

    def take(self, lane_ids: Collection[int]) -> None:
        """Count jobs of these lanes, one each time, as running from now on."""
        for lane_id in lane_ids:
            queue = self.lanes[lane_id].queue
            self._running[queue] += 1
            self._claimed[queue] = self._claimed.get(queue, self._least) + 1 / self._weights.get(queue, 1)

    def claimed(
        self, walk: Iterable[tuple[int, int]], jobs: Iterable[tuple[int, int]], *, limit: int
    ) -> None:
        """Learn from the (lane, position) pairs that a claim of *limit* jobs brought."""
        jobs = list(jobs)
        super().claimed(walk, jobs, limit=limit)
        self.take([lane_id for lane_id, _ in jobs])

    def _is_open(self, lane_id: int) -> bool:
        return self._room(self.lanes[lane_id].queue, 1) > 0

    def _room(self, queue: str, otherwise: int) -> int:
        slots = self._slots.get(queue)
        return otherwise if slots is None else slots - self._running[queue]

    def _are_claimed_together(self, queue: str, other: str) -> bool:
        return queue == other or (queue not in self._slots and other not in self._slots)
