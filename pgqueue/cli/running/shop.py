"""A made-up shop: what `pgqueue demo --keep` shows in the dashboard.

Each kind of thing is there: queues, jobs that are retried, jobs that fail for good, one that reports its
progress, a workflow that waits for its members, a limit, and a schedule.
"""

from __future__ import annotations

import random
from itertools import count
from typing import Final

import anyio

from pgqueue import JobContext, PgQueue, Rate, chain, chord

QUEUES: Final = ("orders", "mail", "catalog", "reports")
EVERY: Final = 1.0
"""Seconds between two orders."""
IMPORT_EVERY: Final = 15
REPORT_EVERY: Final = 20
"""Orders between two imports, and between two reports."""
REGIONS: Final = ("north", "east", "south", "west")


class CardDeclinedError(Exception):
    """The bank has refused. Nothing helps."""


class BankAwayError(Exception):
    """The bank did not answer. It may the next time."""


class Shop:
    """Declares the shop's tasks on *pgq*; `stay_open` has orders come in."""

    def __init__(self, pgq: PgQueue) -> None:
        gentle = pgq.limit("mail server", rate=Rate(2, burst=1))

        @pgq.task(
            queue="orders", max_retries=4, default_retry_delay=2, dont_autoretry_for=(CardDeclinedError,)
        )
        async def charge(ctx: JobContext, order: int) -> int:
            await anyio.sleep(random.uniform(0.2, 1.0))
            if order % 10 == 0:
                raise CardDeclinedError(f"the card of order {order} was declined")
            if order % 4 == 0 and ctx.attempt < 3:
                raise BankAwayError(f"no answer to attempt {ctx.attempt}")
            return order

        @pgq.task(queue="mail", limits=[gentle])
        async def send_receipt(order: int) -> str:
            await anyio.sleep(0.1)
            return f"receipt of order {order}"

        @pgq.task(queue="catalog")
        async def import_catalog(ctx: JobContext, rows: int) -> int:
            for row in range(rows):
                ctx.progress(row, rows, {"file": "catalog.csv"})
                await anyio.sleep(0.1)
            ctx.progress(rows, rows)
            return rows

        @pgq.task(queue="reports")
        async def count_sales(region: str) -> int:
            await anyio.sleep(random.uniform(1, 4))
            return len(region)

        @pgq.task(queue="reports")
        async def add_up(sales: list[int]) -> int:
            return sum(sales)

        @pgq.schedule(every=10)
        @pgq.task(queue="catalog")
        async def check_stock() -> None:
            await anyio.sleep(0.2)

        self._charge, self._send_receipt, self._import = charge, send_receipt, import_catalog
        self._count_sales, self._add_up = count_sales, add_up

    async def stay_open(self) -> None:
        """Have orders come in until cancelled."""
        for order in count(1):
            await chain(self._charge.s(order), self._send_receipt.s()).enqueue()
            if order % IMPORT_EVERY == 1:
                await self._import.enqueue(300)
            if order % REPORT_EVERY == 2:
                await chord(map(self._count_sales.s, REGIONS), self._add_up.s()).enqueue()
            await anyio.sleep(EVERY)
