"""What operators see of a workflow is the same whether the database folds and filters it, or not at all."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from pgqueue import JobStatus, PgQueue, Reject, WorkflowNotFoundError, chain, chord, group
from pgqueue.model.workflows import WorkflowGroup
from pgqueue.web.pages.graph import draw

pytestmark = pytest.mark.contract("P7.22")


@pytest.fixture
async def canvases(pgq: PgQueue) -> dict[str, Any]:
    @pgq.task(max_retries=0)
    async def odd(number: int) -> int:
        if number % 2 == 0:
            raise Reject("even")
        return number

    @pgq.task
    async def add_up(numbers: list[int]) -> int:
        return sum(numbers)

    @pgq.task
    async def note() -> None:
        return

    behind: Any = group(*(note.si() for _ in range(8)))
    flow = pgq.workflow("a graph")
    first = flow.add("first", odd.s(1))
    middle = [flow.add(f"middle {number}", odd.si(number), after=[first]) for number in range(7)]
    flow.add("one more", note.si(), after=[first])
    last = flow.add("last", note.si(), after=middle, join="done")
    flow.add("behind", note.si(), after=[first, last])
    return {
        "a job": odd.s(1),
        "a chain": chain(odd.s(1), odd.si(2), odd.si(3)),
        "a chord": chord([odd.s(number) for number in range(12)], add_up.s()),
        "few that are alike": chord([odd.s(number) for number in range(4)], add_up.s()),
        "a group": odd.map(range(9)),
        "a group behind a group": chain(odd.map([1] * 6), behind),
        "chains that are alike": group(*(chain(odd.s(1), note.si(), note.si()) for _ in range(6))),
        "chords in a chord": chord(
            [chord([odd.s(number) for number in range(6)], add_up.s()) for _ in range(2)], add_up.s()
        ),
        "callbacks": chord([odd.s(number) for number in range(6)], add_up.s()).set(
            on_error=note.si(), on_complete=note.si()
        ),
        "a graph": flow,
    }


async def test_a_workflow_that_the_database_folds_is_drawn_as_one_that_it_does_not(
    pgq: PgQueue, canvases: dict[str, Any]
) -> None:
    handles = {name: await canvas.enqueue() for name, canvas in canvases.items()}

    async def compare() -> None:
        for name, handle in handles.items():
            _, jobs, edges = await pgq.read_graph(handle.workflow_id)
            groups, links = await pgq.fold_workflow(handle.workflow_id)

            single = [WorkflowGroup(job.id, job.task, {job.status: 1}) for job in jobs]
            assert draw(groups, links) == draw(single, edges), name

    await compare()
    groups, _ = await pgq.fold_workflow(handles["a chord"].workflow_id)
    assert sorted(each.total for each in groups) == [1, 12]
    async with pgq.worker():
        for handle in handles.values():
            await handle.join(60)
    await compare()
    with pytest.raises(WorkflowNotFoundError):
        await pgq.fold_workflow(uuid4())


async def test_its_jobs_come_by_pages_with_any_status_or_with_one(
    pgq: PgQueue, canvases: dict[str, Any]
) -> None:
    ended = await canvases["a chord"].enqueue()
    async with pgq.worker():
        await ended.join(60)
    waiting = await canvases["a graph"].enqueue()

    for handle in (ended, waiting):
        _, jobs, _ = await pgq.read_graph(handle.workflow_id)
        failed_first = sorted(jobs, key=lambda job: (job.status is not JobStatus.FAILED, job.id))
        for status in (None, *JobStatus):
            seen, cursor = [], None
            while True:
                page = await pgq.workflow_jobs(handle.workflow_id, status=status, limit=3, cursor=cursor)
                seen += [job.id for job in page.jobs]
                assert len(page.jobs) <= 3
                cursor = page.cursor
                if cursor is None:
                    break
            assert seen == [job.id for job in failed_first if status in (None, job.status)], status
