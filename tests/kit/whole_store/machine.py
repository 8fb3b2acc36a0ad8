"""The state machine: every rule, and what must hold after each step and in the end."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kit.whole_store.calls import STEPS
from kit.whole_store.checks import violations
from kit.whole_store.draining import drain, forget_all
from kit.whole_store.enqueuing import NUMBERS, Enqueuing
from kit.whole_store.operating import Operating
from kit.whole_store.oracle import ENDED
from kit.whole_store.working import Working
from kit.whole_store.world import World

OVER = """
select gate.rule, gate.key, count(*) as held
from pgqueue.gate_pass
join pgqueue.gate on gate.id = gate_pass.gate
join pgqueue.limit_rule on limit_rule.name = gate.rule
where slots is not null and kind = 'slots'
group by gate.rule, gate.key having count(*) > min(slots)
"""

COUNTED = 4
"""Each so many steps, what pages count is compared with the rows."""


class WholeStore(Enqueuing, Working, Operating, RuleBasedStateMachine):
    """The whole store, under everybody who uses it at once."""

    shared: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.world = self.shared
        self.door = None
        self.ended_at: dict[UUID, float] = {}
        self.over: dict[tuple[str, str], int] = {}

    @initialize(numbers=st.lists(NUMBERS, min_size=3, max_size=8))
    def begin_anew(self, numbers: list[int]) -> None:
        """Begin with some jobs and nothing else."""
        self.world.go(self.world.begin())
        self.enqueue(numbers, 0)

    @precondition(lambda self: len(self.world.oracle.jobs) < 30)
    @rule(name=st.sampled_from(("expiring", "late")), who=st.integers(0, 1))
    def let_expire(self, name: str, who: int) -> None:
        """Have a job wait past its expiry: in its queue, or for its time."""
        self.enqueue([list(self.world.kinds).index(name)], who)
        self.time_passes(max(STEPS))
        self.expire()

    @invariant()
    def agrees(self) -> None:
        """See that the store is as the model says, and as it must be whatever the model says."""
        self.world.go(self._check())

    async def _check(self) -> None:
        world = self.world
        rows = await world.look()
        found = world.oracle.differences(rows) + await violations(world.db)
        assert not found, "; ".join(found)
        world.tally["steps checked"] += 1
        await self._check_limits()
        if world.tally["steps checked"] % COUNTED == 0:
            await self._check_counts(rows)
        for job_id, job in world.oracle.jobs.items():
            if job.place in ENDED:
                self.ended_at.setdefault(job_id, world.oracle.now)
            else:
                self.ended_at.pop(job_id, None)

    async def _check_limits(self) -> None:
        """See that nothing is let through past a limit. One that was lowered may have more for a while."""
        over = {(row["rule"], row["key"]): row["held"] for row in await self.world.db.fetch(OVER)}
        changed = set(self.world.slots)
        for (limit, key), held in over.items():
            assert limit in changed, f"limit {limit} of {key} is exceeded: {held}"
            before = self.over.get((limit, key))
            assert before is None or held <= before, f"limit {limit} of {key} was exceeded further: {held}"
        self.over = over

    async def _check_counts(self, rows: dict[UUID, Any]) -> None:
        """See that what pages and metrics show are the rows that there are."""
        counted = {"queued": 0, "scheduled": 0, "blocked": 0, "running": 0, "held": 0}
        for lane in await self.world.store.measure(self.world.db, 1000, 1000):
            counted["queued"] += lane.ready
            counted["scheduled"] += lane.scheduled + lane.retrying
            counted["blocked"] += lane.blocked
            counted["running"] += lane.running
            counted["held"] += lane.prefetched
        there = dict.fromkeys(counted, 0)
        for row in rows.values():
            waits_for_limits = row["place"] == "queued" and row["position"] is None
            if waits_for_limits or row["place"] in ("suspended", "following", "joined"):
                there["blocked"] += 1
            elif row["place"] in there:
                there[row["place"]] += 1
        assert counted == there, f"{counted} is counted, and {there} is there"

    def teardown(self) -> None:
        """Have everything end, and see that it does, and that nothing is left then."""
        self.world.go(self._end())

    async def _end(self) -> None:
        world = self.world
        for session in world.sessions.values():
            if session.transaction is not None:
                await world.end(session, commits=True)
        if not self.is_failing:
            await self._check()
            strays = await world.store.find_strays(world.db, list(world.oracle.jobs))
            assert not strays, f"the upkeep would find {strays}"
            await drain(world.store, world.db)
            await forget_all(world.store, world.db)

    @property
    def is_failing(self) -> bool:
        """Whether a step has failed, so that the end says nothing more."""
        import sys

        return sys.exc_info()[0] is not None
