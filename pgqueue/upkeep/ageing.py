"""Raises the priority of jobs that have waited for long, in queues that are declared with `ageing`.

Claims know nothing of it: a raised job stands in another lane, at the position that it had. So it comes
before what was enqueued after it, and no job waits for ever behind ones of higher priorities.
"""

from __future__ import annotations

from typing import Final

from pgqueue.events.kinds import JobsRaised
from pgqueue.model.ids import new_id
from pgqueue.tasks.registry import Registry
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

LIMIT: Final = 1000
"""Jobs of a queue that one statement raises, and about as many that it looks at."""
CHORE_TTL: Final = 5.0
"""Seconds after which another worker may take over from one that no longer does it."""


class Ageing(Chore):
    """Raises jobs of the queues that this process declares with `ageing`; one worker at a time for each."""

    name = "raising jobs that have waited"

    def __init__(self, tools: Tools, registry: Registry) -> None:
        super().__init__()
        self._tools = tools
        self._registry = registry
        self._id = new_id()

    async def run(self) -> float:
        """Raise what has waited long enough."""
        tools = self._tools
        for queue, seconds in list(self._registry.ageing.items()):
            async with tools.link.use() as connection:
                # By the time as well: where deployments declare different ones, each is heeded.
                chore = f"ageing {seconds!r} {queue}"
                if not await tools.store.take_chore(connection, chore, self._id, CHORE_TTL):
                    continue
                raised = await tools.store.raise_waiting(connection, queue, seconds, LIMIT)
            if raised:
                tools.announcer.committed(ready=list(raised))
                tools.observers.emit(JobsRaised(queue, dict(raised.values())))
        return TICK
