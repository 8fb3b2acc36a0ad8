"""Works on mass redrives: makes dead letters pending again, oldest first, at the rate asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pgqueue.events.kinds import JobMoved, JobsReopened
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

LIMIT: Final = 5000
"""Jobs of a mass redrive that one run makes pending at most."""


class Redriving(Chore):
    """Works on mass redrives."""

    name = "working on mass redrives"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools

    async def run(self) -> float:
        """Do the next part of a mass redrive, if one is due."""
        tools = self._tools
        jobs: Sequence[JobMoved] = ()
        reason: str | None = None
        # One transaction: its jobs can be claimed as soon as it commits, so they are named before.
        async with tools.link.use() as connection, connection.transaction():
            carried = await tools.store.carry_redrive(connection, LIMIT)
            if carried is not None and carried.lanes and tools.observers.want(JobsReopened):
                jobs, reason = await tools.store.find_redriven(connection, carried)
        if carried is not None and carried.lanes:
            tools.announcer.committed(ready=carried.lanes)
        if jobs:
            tools.observers.emit(JobsReopened(jobs, "redriven", reason))
        return TICK
