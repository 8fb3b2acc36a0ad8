"""Makes the day partitions of the job table, some days ahead.

Not many: each empty partition beside the current one costs a claim about a hundredth, because the final read
of the claimed jobs opens each of them.
"""

from __future__ import annotations

import logging
from typing import Final

from pgqueue.upkeep.chore import Chore
from pgqueue.upkeep.tools import Tools

logger = logging.getLogger("pgqueue.worker")

INTERVAL: Final = 3600.0
"""Seconds between two runs."""
DAYS_AHEAD: Final = 3


class Partitioning(Chore):
    """Makes partitions."""

    name = "making partitions"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools

    async def run(self) -> float:
        """Make the partitions that are missing."""
        async with self._tools.link.use() as connection:
            made = await self._tools.store.make_partitions(connection, DAYS_AHEAD)
        if made:
            logger.info("made %d partitions of the job table", made)
        return INTERVAL
