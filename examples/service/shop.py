"""A shop: orders over HTTP, charged and confirmed by jobs, and a report each night. How to run it: README.md.

An order and the job that charges it are written in one transaction of SQLAlchemy. Errors go to Sentry.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime

import sentry_sdk
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pgqueue import JobContext, PgQueue, Reject, chord
from pgqueue.integrations import sentry
from pgqueue.integrations.fastapi import lifespan
from pgqueue.web import status_app

pgq = PgQueue(os.environ.get("DATABASE_URL", "postgresql://localhost/shop"))
sentry_sdk.init(os.environ.get("SENTRY_DSN"))
sentry.instrument(pgq)

Sessions = async_sessionmaker[AsyncSession]
REGIONS = ("north", "south")
MOST_ORDERS = 3


class Base(DeclarativeBase):
    """The tables of the shop."""


class Order(Base):
    """What somebody has ordered."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str]
    region: Mapped[str]
    amount: Mapped[int]
    receipt: Mapped[str | None]


class Report(Base):
    """What was sold on a day."""

    __tablename__ = "reports"
    day: Mapped[date] = mapped_column(primary_key=True)
    total: Mapped[int]


@pgq.lifespan
@asynccontextmanager
async def open_sessions() -> AsyncIterator[Sessions]:
    """Open what handlers have as `ctx.state`: sessions on the database that the PgQueue is on."""
    engine = create_async_engine(str(pgq.dsn).replace("postgresql://", "postgresql+asyncpg://", 1))
    try:
        yield async_sessionmaker(engine, expire_on_commit=False)
    finally:
        await engine.dispose()


async def charge_card(amount: int, key: str) -> str:
    """Stand for the bank, which charges once for each key."""
    if amount > 1000:
        raise Reject(f"{amount} is more than the card allows")
    return f"receipt {key[:8]}"


@pgq.task(queue="orders", max_retries=5)
async def charge(ctx: JobContext[Sessions], order_id: int) -> None:
    """Charge an order, once, and have its receipt sent."""
    async with ctx.state.begin() as session:
        order = await session.get_one(Order, order_id)
        receipt = await ctx.step("charge", charge_card, order.amount, ctx.idempotency_key_for("charge"))
        if order.receipt is None:
            order.receipt = receipt
            await send_receipt.options(connection=session).enqueue(order.address, receipt)


@pgq.task(queue="mail", max_retries=5)
async def send_receipt(address: str, receipt: str) -> str:
    """Stand for a mail."""
    return f"{receipt} to {address}"


@pgq.task(queue="reports")
async def count_sales(ctx: JobContext[Sessions], region: str) -> int:
    """Add up what a region has paid."""
    paid = select(func.sum(Order.amount)).where(Order.region == region, Order.receipt.is_not(None))
    async with ctx.state() as session:
        return int(await session.scalar(paid) or 0)


@pgq.task(queue="reports")
async def store_report(ctx: JobContext[Sessions], totals: list[int], day: date) -> None:
    """Store a report, or store it again."""
    async with ctx.state.begin() as session:
        await session.merge(Report(day=day, total=sum(totals)))


@pgq.schedule("0 3 * * *", timezone="Europe/Berlin")
@pgq.task(queue="reports")
async def close_day(ctx: JobContext) -> None:
    """Run each night: a job for each region, and one that adds them up."""
    await ctx.run("report", chord(map(count_sales.s, REGIONS), store_report.s(day=datetime.now(UTC).date())))


@asynccontextmanager
async def with_sessions(app: FastAPI) -> AsyncIterator[None]:
    """Open sessions for the endpoints; `pgq` is open by then."""
    async with open_sessions() as app.state.sessions:
        yield


app = FastAPI(lifespan=lifespan(pgq, around=with_sessions))
app.mount("/queue", status_app(pgq, local_reading=True))


class Placed(BaseModel):
    """What somebody orders."""

    address: str
    region: str = Field(pattern="|".join(REGIONS))
    amount: int = Field(gt=0)


@app.post("/orders", status_code=202)
async def place_order(placed: Placed) -> dict[str, str | int]:
    """Write an order, and the job that charges it, in one transaction."""
    async with app.state.sessions.begin() as session:
        order = Order(**placed.model_dump())
        session.add(order)
        await session.flush()
        job = await charge.options(connection=session).enqueue(order.id)
        if await session.scalar(select(func.count()).where(Order.address == placed.address)) > MOST_ORDERS:
            raise HTTPException(429, "that is enough for today")  # rolls back: no order, and no job
    return {"order": order.id, "job": str(job.id)}


@app.get("/orders/{order_id}")
async def show_order(order_id: int) -> dict[str, str | None]:
    """Say whether an order was charged."""
    async with app.state.sessions() as session:
        if (order := await session.get(Order, order_id)) is None:
            raise HTTPException(404)
        return {"receipt": order.receipt}
