"""The shop, tested with pgqueue's test kit."""

from __future__ import annotations

from typing import Any

import httpx
from shop import Report, charge, send_receipt
from sqlalchemy import select

from pgqueue import JobStatus, PgQueue
from pgqueue.testing import Clock, assert_enqueued, drain, inline, runs_twice

ORDER = {"address": "ann@example.com", "region": "north", "amount": 50}


async def test_an_order_is_charged_and_its_receipt_is_sent(client: httpx.AsyncClient, queue: PgQueue) -> None:
    placed = (await client.post("/orders", json=ORDER)).json()
    await assert_enqueued(charge, placed["order"], queue="orders", times=1)

    charged, sent = await drain(queue)

    shown = (await client.get(f"/orders/{placed['order']}")).json()
    assert str(charged.id) == placed["job"]
    assert sent.result == f"{shown['receipt']} to ann@example.com"


async def test_an_order_that_is_rolled_back_leaves_no_job(client: httpx.AsyncClient, queue: PgQueue) -> None:
    answers = [await client.post("/orders", json=ORDER) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    await assert_enqueued(charge, times=3)


async def test_an_order_is_charged_once_also_if_its_job_runs_twice(
    client: httpx.AsyncClient, queue: PgQueue
) -> None:
    await client.post("/orders", json=ORDER)

    with runs_twice(queue):
        ended = await drain(queue)

    assert [job.status for job in ended] == [JobStatus.SUCCEEDED] * 2
    await assert_enqueued(send_receipt, times=1)


async def test_a_card_that_is_declined_is_a_dead_letter_and_an_event_of_sentry(
    client: httpx.AsyncClient, queue: PgQueue, reported: list[Any]
) -> None:
    await client.post("/orders", json=ORDER | {"amount": 5000})

    [charged] = await drain(queue)

    assert (charged.status, charged.attempt) == (JobStatus.FAILED, 1)
    [event] = reported
    assert event["transaction"] == "charge"
    assert "5000 is more than the card allows" in event["exception"]["values"][-1]["value"]


async def test_each_night_the_sales_of_all_regions_are_added_up(
    client: httpx.AsyncClient, queue: PgQueue, sessions: Any
) -> None:
    for region, amount in (("north", 50), ("south", 70)):
        await client.post("/orders", json=ORDER | {"region": region, "amount": amount})
    await drain(queue)

    await Clock(queue).advance_to_tick("close_day")
    await drain(queue)

    async with sessions() as session:
        assert (await session.scalars(select(Report.total))).all() == [120]


async def test_a_receipt_needs_no_database(queue: PgQueue) -> None:
    with inline(queue):
        job = await send_receipt.enqueue("ann@example.com", "receipt 1")
        assert await job.result() == "receipt 1 to ann@example.com"
