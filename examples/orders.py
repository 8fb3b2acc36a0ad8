"""Tasks that may safely run twice.

Any task may run twice: a worker can die after the work was done and before its outcome was written.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from uuid import UUID

from pgqueue import JobContext, PgQueue

logger = logging.getLogger(__name__)

pgq = PgQueue(os.environ.get("DATABASE_URL", "postgresql://localhost/app"))

SCHEMA = """
create table orders (
    id text primary key, total integer not null, status text not null default 'new', transaction_id text
);
create table stock (item text primary key, amount integer not null);
"""


class PaymentProvider:
    """Your payment provider."""

    async def charge(self, amount: int, *, idempotency_key: str) -> str:
        """Charge once per key, however often it is called; return the transaction's id."""
        raise NotImplementedError


payment_provider = PaymentProvider()


async def charge(amount: int, idempotency_key: str) -> str:
    """Charge an order."""
    return await payment_provider.charge(amount, idempotency_key=idempotency_key)


@pgq.task
async def process_order(ctx: JobContext, order_id: str) -> None:
    """Process an order once, however often this runs, and for however many jobs of one order."""
    async with ctx.transaction() as connection:
        # Check before write. The lock makes a second job of this order wait until this one has ended: two
        # that have both read "new" would both go on.
        order = await connection.fetchrow("select * from orders where id = $1 for update", order_id)
        if order is None or order["status"] == "completed":
            logger.info("order already processed, or unknown")
            return
        # The key is the order's and not the job's: the provider charges one order once, whichever job asks.
        # Its answer is stored with this job, and not asked for again.
        transaction_id = await ctx.step("charge", charge, order["total"], f"order-{order_id}")
        # Committed with the job's success, or not at all.
        await connection.execute(
            "update orders set status = 'completed', transaction_id = $2 where id = $1",
            order_id,
            transaction_id,
        )


async def place_order(order_id: str) -> UUID:
    """Have an order processed, by one job however often this is called within a day. Return the job's id."""
    job = await process_order.options(idempotency_key=f"order-{order_id}").enqueue(order_id)
    return job.id


@pgq.task
async def book_delivery(ctx: JobContext, event_id: str, item: str, amount: int) -> None:
    """Process an event of the supplier once, even if it is sent again within two days."""
    async with ctx.transaction() as connection:
        # Noted in the transaction of the effect, so that neither exists without the other.
        ttl = timedelta(hours=48)
        if await pgq.mark_processed("supplier", event_id, ttl=ttl, connection=connection):
            await connection.execute("update stock set amount = amount + $2 where item = $1", item, amount)


@pgq.task
async def set_stock(ctx: JobContext, item: str, amount: int) -> None:
    """Upsert: writing it a second time changes nothing."""
    async with ctx.transaction() as connection:
        await connection.execute(
            "insert into stock (item, amount) values ($1, $2) "
            "on conflict (item) do update set amount = excluded.amount",
            item,
            amount,
        )
