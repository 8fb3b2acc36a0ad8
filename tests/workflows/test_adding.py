"""Members that add members to their own group."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually

from pgqueue import (
    ContextError,
    JobContext,
    LeaseLostError,
    PgQueue,
    WorkflowFailed,
    at_least,
    chain,
    chord,
    group,
)

if TYPE_CHECKING:
    from conftest import Connection

WITHIN = 60.0


class Crawler:
    """Tasks that follow links: each page adds those behind it."""

    def __init__(self, pgq: PgQueue) -> None:
        self.runs: Counter[int] = Counter()

        @pgq.task(max_retries=2, default_retry_delay=0)
        async def crawl(ctx: JobContext, page: int, below: int, fails: bool = False) -> int:
            self.runs[page] += 1
            for link in (2 * page, 2 * page + 1):
                if link < below:
                    await ctx.add(str(link), crawl.s(link, below, fails))
            if fails and ctx.attempt == 1:
                raise ConnectionResetError
            return page

        @pgq.task
        async def listed(pages: list[int]) -> list[int]:
            return pages

        self.crawl, self.listed = crawl, listed


@pytest.mark.core
@pytest.mark.contract("P7.19")
@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("fails", [False, True])
async def test_members_add_members_each_once_and_all_results_come(
    pgq: PgQueue, db: Connection, concurrency: int, fails: bool
) -> None:
    tasks = Crawler(pgq)
    async with pgq.worker(concurrency=concurrency), pgq.worker(concurrency=concurrency):
        body = await chord([tasks.crawl.s(1, 40, fails)], tasks.listed.s()).enqueue()
        whole = await group(tasks.crawl.s(1, 8), tasks.crawl.s(100, 0)).enqueue()
        pages = await body.result(timeout=WITHIN)
        results = await whole.result(timeout=WITHIN)
    assert sorted(pages) == list(range(1, 40))
    assert pages[:1] == [1]
    # Behind those that were submitted, in the order of adding.
    assert results[:3] == [1, 100, 2]
    assert sorted(results[3:]) == [3, 4, 5, 6, 7]
    assert all(tasks.runs[page] == (2 if fails else 1) for page in range(8, 40))
    # Nothing is left but the two workflows, and each job is in one of them.
    assert await db.fetchval("select count(*) from pgqueue.workflow") == 2
    assert not await db.fetchval(
        "select count(*) from pgqueue.job where workflow_id not in (select id from pgqueue.workflow)"
    )
    assert not await db.fetchval("select count(*) from pgqueue.barrier where open <> 0 or state <> 'fired'")


@pytest.mark.contract("P7.19")
async def test_who_is_in_no_open_group_is_refused_and_nothing_is_written(
    pgq: PgQueue, db: Connection
) -> None:
    refused: list[str] = []
    decided = asyncio.Event()

    @pgq.task
    async def leaf(value: Any = None) -> int:
        return 7

    @pgq.task(max_retries=0)
    async def adds(ctx: JobContext, waits: bool = False) -> str:
        if waits:
            await decided.wait()
            # The body runs, so the group is decided.
        with pytest.raises(ContextError, match="cannot be added") as caught:
            await ctx.add("more", leaf.s())
        refused.append(str(caught.value).partition("because ")[2].partition(";")[0])
        return "refused"

    @pgq.task(max_retries=0)
    async def parent(ctx: JobContext) -> str:
        return await ctx.run("child", adds.s())

    async with pgq.worker(concurrency=4):
        assert await (await adds.enqueue()).result(timeout=WITHIN) == "refused"
        assert await (await chain(adds.s(), leaf.s()).enqueue()).result(timeout=WITHIN) == 7
        assert await (await parent.enqueue()).result(timeout=WITHIN) == "refused"
        assert refused == ["it is no member of a group"] * 3
        # The first success decides.
        first = await chord([leaf.s(), adds.s(waits=True)], leaf.s(), join="first").enqueue()
        assert await first.result(timeout=WITHIN) == 7
        decided.set()
        await first.join(timeout=WITHIN)
    assert refused[3:] == ["what its group comes to is decided already"]
    assert await db.fetchval("select count(*) from pgqueue.job where task = $1", leaf.name) == 3
    assert not await db.fetchval("select count(*) from pgqueue.step where name = 'more'")


@pytest.mark.contract("P7.19")
async def test_an_added_member_that_fails_fails_the_group(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def fail() -> int:
        raise ValueError("no")

    @pgq.task
    async def add(ctx: JobContext, fails: bool) -> int:
        await ctx.add("more", chain(add_none.s(), add_none.si()), group(add_none.s(), add_none.s()))
        if fails:
            await ctx.add("one that fails", fail.s())
        return 1

    @pgq.task
    async def add_none() -> int:
        return 2

    @pgq.task
    async def listed(values: list[Any]) -> list[Any]:
        return values

    async with pgq.worker(concurrency=1):
        for fail_fast in (False, True):
            whole = await chord([add.s(True)], listed.s(), fail_fast=fail_fast).enqueue()
            with pytest.raises(WorkflowFailed, match="ValueError"):
                await whole.result(timeout=WITHIN)
        # A member is whatever a group takes, and a share is one of the members submitted.
        whole = await chord([add.s(False)], listed.s()).enqueue()
        assert await whole.result(timeout=WITHIN) == [1, 2, [2, 2]]
        whole = await chord([add.s(True), add_none.s()], listed.s(), join=at_least("100%")).enqueue()
        assert len(await whole.result(timeout=WITHIN)) >= 2


@pytest.mark.contract("P7.19")
async def test_an_attempt_that_has_lost_its_lease_adds_nothing_and_a_paused_group_keeps_what_is_added(
    pgq: PgQueue, db: Connection
) -> None:
    lost: list[str] = []

    @pgq.task
    async def leaf() -> int:
        return 2

    @pgq.task
    async def adds(ctx: JobContext, loses: bool) -> int:
        if loses and not lost:
            async with db.transaction():
                await db.execute("set local pgqueue.writer to 'on'")
                await db.execute(
                    "update pgqueue.running set lease_id = gen_random_uuid() where job_id = $1", ctx.job_id
                )
            with pytest.raises(LeaseLostError):
                await ctx.add("more", leaf.s())
            lost.append("lost")
            assert not await db.fetchval("select count(*) from pgqueue.job where task = $1", leaf.name)
        elif not loses:
            workflow = await db.fetchval("select workflow_id from pgqueue.job where id = $1", ctx.job_id)
            await pgq.pause_workflow(workflow)
            await ctx.add("more", leaf.s())
            assert await db.fetchval("select count(*) from pgqueue.blocked where is_due") == 1
            await pgq.resume_workflow(workflow)
        return 1

    async with pgq.worker(concurrency=2):
        await group(adds.s(True)).enqueue()

        async def has_tried() -> bool:
            return bool(lost)

        await eventually(has_tried)
        paused = await group(adds.s(False)).enqueue()
        assert await paused.result(timeout=WITHIN) == [1, 2]
        # The attempt that has the lease now goes on, and this one changed nothing.
        assert await db.fetchval("select array_agg(total order by id) from pgqueue.barrier") == [1, 2]


@pytest.mark.contract("P7.19")
async def test_members_may_add_at_the_moment_at_which_the_others_end(pgq: PgQueue) -> None:
    runs: Counter[str] = Counter()

    @pgq.task
    async def quick(name: str) -> int:
        runs[name] += 1
        return 1

    @pgq.task
    async def adds(ctx: JobContext, name: str) -> int:
        await ctx.add("more", quick.s(f"{name}.1"), quick.s(f"{name}.2"))
        return 1

    @pgq.task
    async def total(values: list[int], name: str) -> int:
        runs[name] += 1
        return sum(values)

    async with pgq.worker(concurrency=8), pgq.worker(concurrency=8):
        wholes = [
            await chord([quick.s(f"{n}"), adds.s(f"{n}a"), adds.s(f"{n}b")], total.s(f"body {n}")).enqueue()
            for n in range(60)
        ]
        for whole in wholes:
            assert await whole.result(timeout=WITHIN) == 7
    assert set(runs.values()) == {1}
    assert len(runs) == 60 * 6
