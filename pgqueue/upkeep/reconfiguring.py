"""Reads what operators have paused and configured, and makes the worker heed it: every second, and when told.

Nothing is claimed before this chore has run once: what is paused would start.
"""

from __future__ import annotations

import logging

from pgqueue.tasks.registry import Registry
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

logger = logging.getLogger("pgqueue.worker")


class Reconfiguring(Chore):
    """Heeds the settings of operators."""

    name = "reading the settings of operators"

    def __init__(self, tools: Tools, registry: Registry) -> None:
        super().__init__()
        self._tools = tools
        self._registry = registry
        self._heard = 0

    @property
    def is_called_for(self) -> bool:
        """Whether a request was announced since the last run."""
        return self._heard != self._tools.state.requests.count

    async def run(self) -> float:
        """Read the settings, and have them heeded if they have changed."""
        tools, state = self._tools, self._tools.state
        self._heard = state.requests.count
        async with tools.link.use() as connection:
            settings = await tools.store.read_settings(connection)
        if settings != state.settings:
            for task in sorted(settings.unreadable):
                logger.error("ignoring unreadable run-time options of task %r", task)
            self._registry.set_at_run_time(settings.options)
            # The claimer looks again: what was resumed has jobs, perhaps.
            state.settings = settings
            state.claiming.set()
        return TICK
