"""Looks whether another host of the DSN was promoted, where the server in use still takes writes.

A server that was frozen, or cut off from those that promote, does not know that it has been replaced. Whoever
is connected to it would go on there: enqueue what nobody finds, and run what others run as well. No statement
fails, so nothing but the other hosts can tell.
"""

from __future__ import annotations

from typing import Final

import anyio

from pgqueue.background.loop import Loop
from pgqueue.database.pool import Database

LOOK_EVERY: Final = 5.0
"""Seconds between two looks. Each opens a connection to each other host."""


class Promotions:
    """Has the connections of one process leave an old primary. Does nothing where the DSN names one host."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.loop = Loop("promotions")

    async def run(self) -> None:
        """Look until cancelled."""
        with self.loop.lifetime():
            await self.loop.outlive(self._run)

    async def _run(self) -> None:
        while True:
            if self._database.has_several_hosts:
                with self.loop.step():
                    await self._database.leave_old_primary()
            await anyio.sleep(LOOK_EVERY)
