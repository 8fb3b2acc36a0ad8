"""Why a job waits is said in a sentence, whatever it waits for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.command_line import Cli
from kit.faults import Ghost, ghost
from kit.waiting import eventually
from kit.web_client import client_of

from pgqueue import JobContext, JobNotFoundError, PgQueue, Snooze, chain, chord, group
from pgqueue.model.waits import Standing, explain
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

FAR = 36_000.0
AT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"


@pytest.fixture
async def holder(pgq: PgQueue, db: Connection) -> AsyncIterator[Ghost]:
    """A live worker that runs nothing by itself."""
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    async with ghost(pgq) as holder:
        yield holder


def declare(pgq: PgQueue) -> dict[str, Any]:
    """Declare a task for each way to wait, and some to wait for."""
    tenant = pgq.limit("tenant", slots=1)

    @pgq.task(name="plain")
    async def plain(_: object = None) -> None: ...

    @pgq.task(name="limited", limits=[tenant.by("name")])
    async def limited(name: str) -> None: ...

    @pgq.task(name="ordered", ordered_by="name")
    async def ordered(name: str) -> None: ...

    @pgq.task(name="failing", max_retries=5, default_retry_delay=FAR, retry_backoff=False)
    async def failing() -> None:
        raise ValueError

    @pgq.task(name="snoozing")
    async def snoozing() -> None:
        raise Snooze(FAR)

    @pgq.task(name="sleeping")
    async def sleeping(ctx: JobContext) -> None:
        await ctx.sleep("rest", FAR)

    @pgq.task(name="hearing")
    async def hearing(ctx: JobContext) -> None:
        await ctx.wait_for_event("paid", int)

    @pgq.task(name="later", delay=FAR)
    async def later() -> None: ...

    @pgq.task(name="starting")
    async def starting(ctx: JobContext) -> None:
        await ctx.run("parts", group(later.si(), later.si()))

    return {
        each.name: each for each in (plain, limited, ordered, failing, snoozing, sleeping, hearing, starting)
    }


Make = Callable[[PgQueue, dict[str, Any]], Awaitable[UUID]]


async def plain(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
    return UUID(str((await tasks["plain"].enqueue()).id))


async def behind_two(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
    await tasks["plain"].enqueue()
    await tasks["plain"].options(priority=5).enqueue()
    return await plain(pgq, tasks)


async def elsewhere(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
    return UUID(str((await tasks["plain"].options(queue="mail").enqueue()).id))


async def in_paused_queue(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
    await pgq.pause(queue="default")
    return await plain(pgq, tasks)


async def of_paused_task(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
    await pgq.pause(task="plain")
    return await plain(pgq, tasks)


async def later(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
    return UUID(str((await tasks["plain"].options(delay=FAR).enqueue()).id))


async def at_limit(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
    jobs = [await tasks["limited"].enqueue("a") for _ in range(3)]
    return UUID(str(jobs[-1].id))


async def in_line(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
    jobs = [await tasks["ordered"].enqueue("a") for _ in range(3)]
    return UUID(str(jobs[-1].id))


async def at_limit_in_paused_queue(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
    job_id = await at_limit(pgq, tasks)
    await pgq.pause(queue="default")
    return job_id


async def second_of_a_chain(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
    flow = await chain(tasks["plain"].s(), tasks["plain"].s()).enqueue()
    return UUID(str(flow.id))


async def end_of_a_chord(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
    flow = await chord([tasks["plain"].si(number) for number in range(3)], tasks["plain"].s()).enqueue()
    return UUID(str(flow.id))


def run(name: str) -> Make:
    """Return a way to have a worker run a job until it waits."""

    async def started(pgq: PgQueue, tasks: dict[str, Any]) -> UUID:
        handle = await tasks[name].enqueue()

        async def waits() -> bool:
            return (await handle.refresh()).status in ("scheduled", "blocked")

        async with pgq.worker():
            await eventually(waits)
        return UUID(str(handle.id))

    return started


CASES: dict[str, tuple[Make, str, str]] = {
    "the next": (plain, "turn", "It is ready to run, and the next of its queue; .*"),
    "behind others": (behind_two, "turn", "It is ready to run; 2 jobs of its queue are before it."),
    "no worker": (elsewhere, "no_worker", "No live worker serves its queue mail."),
    "queue paused": (in_paused_queue, "paused_queue", "Its queue default has been paused since AT."),
    "task paused": (of_paused_task, "paused_task", "Its task plain has been paused since AT."),
    "later": (later, "start", "It starts at AT."),
    "retry": (run("failing"), "retry", "Its attempt 1 ended with exception; the next one starts at AT."),
    "snooze": (run("snoozing"), "snooze", "Its handler has put it off; it starts again at AT."),
    "sleep": (run("sleeping"), "sleep", "Its handler sleeps until AT."),
    "event": (run("hearing"), "event", "Its handler waits for event 'paid', without a time limit."),
    "children": (run("starting"), "children", "Its handler waits for 1 job of 1 that it has started."),
    "limit": (
        at_limit,
        "limit",
        "It waits for limit tenant, key 'a': 1 of 1 slots are in use; 1 job is before it.",
    ),
    "order": (
        in_line,
        "order",
        "It waits for its turn in ordered group ordered, key 'a': 1 job is before it.",
    ),
    "limit and pause": (
        at_limit_in_paused_queue,
        "paused_queue",
        "Its queue default has been paused since AT.",
    ),
    "link": (
        second_of_a_chain,
        "dependencies",
        "It waits for job [0-9a-f-]+, which is before it in its workflow.",
    ),
    "chord": (end_of_a_chord, "dependencies", "3 jobs of the 3 before it in its workflow have not ended."),
}


@pytest.mark.contract("P6.2")
@pytest.mark.parametrize("case", CASES)
async def test_why_a_job_waits_is_said_in_a_sentence(
    pgq: PgQueue, db: Connection, holder: Ghost, dsn: str, case: str
) -> None:
    make, kind, text = CASES[case]
    job_id = await make(pgq, declare(pgq))

    found = await pgq.explain_wait(job_id)

    assert found is not None
    assert (found.kind, bool(re.fullmatch(text.replace("AT", AT), found.text))) == (kind, True), found.text
    # The same everywhere.
    async with client_of(status_app(pgq, open_reading=True)) as client:
        shown = (await client.get(f"/jobs/{job_id}/wait")).json()["waits"]
        # Moments are elements there, which a script puts into the reader's time zone.
        page = re.sub(r"</?time\b[^>]*>", "", (await client.get(f"/dashboard/jobs/{job_id}")).text)
    assert (shown["kind"], shown["text"]) == (found.kind, found.text)
    assert found.text.replace("'", "&#39;") in page
    assert (await Cli(dsn, "job").json(str(job_id)))["waits"] == shown


async def test_who_does_not_wait_has_no_reason(pgq: PgQueue) -> None:
    tasks = declare(pgq)
    job = await tasks["plain"].enqueue()
    async with pgq.worker():
        with anyio.fail_after(60):
            await pgq.wait(job.id)
    assert await pgq.explain_wait(job.id) is None
    with pytest.raises(JobNotFoundError):
        await pgq.explain_wait(uuid4())


async def test_who_is_on_its_way_or_known_to_nobody_says_so(pgq: PgQueue, holder: Ghost) -> None:
    tasks = declare(pgq)
    await asyncio.gather(*(tasks["plain"].enqueue() for _ in range(2)))
    flow = await chord([tasks["plain"].si(1)], tasks["plain"].s()).enqueue()
    await pgq.pause_workflow(flow.workflow_id)
    found = await pgq.explain_wait(flow.id)
    assert found is not None
    assert found.text.endswith("has not ended. Its workflow is paused.")
    other: Any = await pgq.enqueue(pgq.signature("nobody knows this"))
    await holder.connection.execute("update pgqueue.lease set tasks = '{plain}'")
    found = await pgq.explain_wait(other.id)
    assert found is not None
    assert (found.kind, "declares its task nobody knows this" in found.text) == ("unknown_task", True)


NUMBERS = st.none() | st.integers(0, 10**6)
TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
STANDINGS = st.builds(
    Standing,
    stands=st.sampled_from(["ready", "prefetched", "scheduled", "blocked"]),
    now=st.just(NOW),
    limit_kind=st.sampled_from(["slots", "rate", "window", "?"]),
    rate=st.none() | st.floats(),
    waits_for=st.none() | st.uuids(),
    link=st.none() | st.uuids(),
    link_position=st.none() | st.integers(-1, 3),
    **dict.fromkeys(
        (
            "attempt",
            "before",
            "total",
            "open",
            "join_total",
            "join_open",
            "slots",
            "burst",
            "in_use",
            "turns_before",
        ),
        NUMBERS,
    ),
    **{
        each: TIMES
        for each in Standing.__dataclass_fields__
        if each.endswith("_at") or each == "closed_until"
    },
)


@given(STANDINGS)
def test_whatever_is_stored_there_is_a_sentence(job: Standing) -> None:
    found = explain(job)
    assert found.text.endswith(".")
    assert found.until is None or found.until.tzinfo is not None


def test_a_rate_says_about_when() -> None:
    nothing: dict[str, Any] = dict.fromkeys(Standing.__dataclass_fields__)
    of_rate = {"limit_name": "bank", "limit_key": "", "limit_kind": "rate", "rate": 0.1, "turns_before": 5}
    known: dict[str, Any] = {**nothing, **of_rate, "stands": "blocked", "queue": "q", "now": NOW}
    found = explain(Standing(**known))
    assert found.until == NOW + timedelta(seconds=60)
    assert found.text == (
        "It waits for limit bank, which lets one job every 10 s start; 5 jobs are before it. "
        "It passes at about 2026-01-31 12:01:00Z."
    )
