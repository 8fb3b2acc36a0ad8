"""Workflows on a real database: results go on in order, and what cannot run says why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from kit.waiting import eventually, holds

from pgqueue import InvalidOptionError, JobCancelled, JobStatus, PgQueue, Reject
from pgqueue.errors import InvalidWorkflowError, JobNotFoundError, ResultTimeoutError, WorkflowFailed
from pgqueue.tasks.combining import chain, chord, group, group_of
from pgqueue.tasks.joins import at_least
from pgqueue.tasks.results import Outcome, Results

WITHIN = 60.0

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class Tasks:
    """The tasks of a PgQueue, and what they were called with."""

    def __init__(self, pgq: PgQueue) -> None:  # noqa: C901  # declarations
        self.runs: Counter[Any] = Counter()
        self.outcomes: list[Outcome[Any]] = []
        self.starts: list[str] = []
        self.is_mended = False

        @pgq.task
        async def extract_data(source_id: int) -> list[int]:
            return [source_id, source_id + 1]

        @pgq.task
        async def transform_data(data: list[int]) -> list[int]:
            return [2 * each for each in data]

        @pgq.task
        async def load_data(data: list[int], destination_id: str) -> str:
            return f"{destination_id}: {data}"

        @pgq.task
        async def square(number: int) -> int:
            self.runs[number] += 1
            return number * number

        @pgq.task(max_retries=0)
        async def odd(number: int) -> int:
            if number % 2 == 0 and not self.is_mended:
                raise Reject(f"{number} is even")
            return number

        @pgq.task
        async def notify(results: list[int], batch_id: str) -> str:
            self.runs[batch_id] += 1
            return f"{batch_id}: {results}"

        @pgq.task
        async def stream(results: Results[int], batch_id: str) -> str:
            return f"{batch_id}: {sum([each async for each in results])} {len(await results.all())}"

        @pgq.task
        async def review(outcomes: list[Outcome[int]]) -> str:
            return " ".join(str(each.result if each.succeeded else each.status) for each in outcomes)

        @pgq.task
        async def report(outcome: Outcome[object], channel: str) -> None:
            self.runs[channel] += 1
            self.outcomes.append(outcome)

        @pgq.task
        async def nothing(label: str = "") -> str:
            self.starts.append(label)
            return label

        @pgq.task
        async def nested(value: Any, label: str = "") -> Any:
            return [label, value]

        @pgq.task
        async def number_of(text: str) -> int:
            return len(text)

        self.extract, self.transform, self.load = extract_data, transform_data, load_data
        self.square, self.odd, self.notify, self.stream = square, odd, notify, stream
        self.review, self.report, self.nothing = review, report, nothing
        self.nested: Any = nested
        self.number_of = number_of


@pytest.fixture
async def tasks(pgq: PgQueue) -> AsyncIterator[Tasks]:
    """Tasks, and a worker that runs them."""
    tasks = Tasks(pgq)
    async with pgq.worker(concurrency=10, poll_interval=0.1):
        yield tasks


@pytest.mark.contract("P7.2")
async def test_the_three_examples_of_the_founding_document_run(tasks: Tasks) -> None:
    workflow = chain(tasks.extract.s(7), tasks.transform.s(), tasks.load.s("warehouse"))
    assert await (await workflow.enqueue()).result(WITHIN) == "warehouse: [14, 16]"
    piped = tasks.extract.s(7) | tasks.transform.s() | tasks.load.s("warehouse")
    assert await (await piped.enqueue()).result(WITHIN) == "warehouse: [14, 16]"
    parallel = group(tasks.square.s(3), tasks.square.s(2), tasks.square.s(1))
    assert await (await parallel.enqueue()).result(WITHIN) == [9, 4, 1]
    chorded = chord([tasks.square.s(number) for number in range(5)], tasks.notify.s("batch"))
    assert await (await chorded.enqueue()).result(WITHIN) == "batch: [0, 1, 4, 9, 16]"
    assert tasks.runs["batch"] == 1


@pytest.mark.contract("P7.13", "P7.14", "P7.6", "P7.8")
async def test_groups_in_chains_in_chords_six_deep_come_to_lists_in_lists(pgq: PgQueue, tasks: Tasks) -> None:
    nested: Any = tasks.nested
    canvas: Any = tasks.square.s(2)
    for depth in range(6):
        inner = group(canvas, chain(canvas, nested.s("link")))
        canvas = chord([inner], nested.s(str(depth))) if depth % 2 else chain(inner, nested.s(str(depth)))
    expected: Any = 4
    for depth in range(6):
        both = [expected, ["link", expected]]
        expected = [str(depth), [both] if depth % 2 else both]

    assert await (await canvas.enqueue()).result(WITHIN) == expected

    fanned: Any = chain(tasks.square.map([1, 2]), group(nested.s("a"), nested.s("b"), tasks.nothing.si("c")))
    assert await (await fanned.enqueue()).result(WITHIN) == [["a", [1, 4]], ["b", [1, 4]], "c"]
    empty: Any = chord([group(), group_of([tasks.square.s(3)])], nested.s("x"))
    assert await (await empty.enqueue()).result(WITHIN) == ["x", [[], [9]]]
    assert await (await pgq.enqueue_workflow(group())).result(WITHIN) == []
    assert await (await tasks.square.map([]).enqueue()).result(WITHIN) == []
    assert await (await chord([], tasks.notify.s("none")).enqueue()).result(WITHIN) == "none: []"


@pytest.mark.contract("P7.5", "P7.12")
async def test_many_results_are_read_by_pages_and_in_input_order(pgq: PgQueue, tasks: Tasks) -> None:
    numbers = list(range(2100))
    handle = await tasks.square.map(numbers).enqueue()
    summed = await chord(tasks.square.map(numbers).members, tasks.stream.s("sum")).enqueue()

    assert [value async for value in handle.results(WITHIN)] == [number**2 for number in numbers]
    assert await handle.counts() == {JobStatus.SUCCEEDED: 2100}
    assert await summed.result(WITHIN) == f"sum: {sum(number**2 for number in numbers)} 2100"
    assert max(tasks.runs[number] for number in numbers) == 2


@pytest.mark.contract("P7.5", "P7.12")
async def test_lists_are_whole_wherever_pages_of_inputs_end(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgqueue.worker.attempt.inputs.PAGE", 3)
    for size in range(8):
        members: list[Any] = [tasks.odd.s(2 * number + 1) for number in range(size)]
        odds = [2 * number + 1 for number in range(size)]
        among: list[Any] = [*members[:4], group(*members), *members[4:], group(tasks.nothing.si("x"))]
        some = [tasks.odd.s(number) for number in range(2 * size)]
        handles = [
            await chord(members, tasks.notify.s("list")).enqueue(),
            await chord(members, tasks.stream.s("stream")).enqueue(),
            await chord(among, tasks.nested.s("nested")).enqueue(),
            await chord(members, tasks.review.s(), join="done").enqueue(),
        ]
        if size:
            handles.append(await chord(some, tasks.notify.s("some"), join=at_least(size)).enqueue())

        assert [await handle.result(WITHIN) for handle in handles] == [
            f"list: {odds}",
            f"stream: {sum(odds)} {size}",
            ["nested", [*odds[:4], odds, *odds[4:], ["x"]]],
            " ".join(map(str, odds)),
            *([f"some: {odds}"] if size else []),
        ]


@pytest.mark.contract("P7.10", "P7.11")
async def test_a_join_starts_its_body_by_its_policy(tasks: Tasks) -> None:
    def odds(*numbers: int) -> list[Any]:
        return [tasks.odd.s(number) for number in numbers]

    done = await chord(odds(1, 2, 3), tasks.review.s(), join="done").enqueue()
    enough = await chord(odds(1, 2, 3, 4), tasks.notify.s("two"), join=at_least(2)).enqueue()
    share = await chord(odds(1, 2, 3, 4), tasks.notify.s("half"), join=at_least("50%")).enqueue()
    first = await chord(odds(2, 5), tasks.notify.s("first"), join="first").enqueue()
    never = await chord(odds(1, 2, 4), tasks.notify.s("never"), join=at_least(2)).enqueue()

    assert await done.result(WITHIN) == "1 failed 3"
    assert await enough.result(WITHIN) == "two: [1, 3]"
    assert await share.result(WITHIN) == "half: [1, 3]"
    assert await first.result(WITHIN) == "first: [5]"
    with pytest.raises(WorkflowFailed):
        await never.result(WITHIN)
    assert tasks.runs["never"] == 0


@pytest.mark.contract("P7.4", "P7.9", "P7.16")
async def test_a_failure_cancels_what_waits_and_the_handle_names_every_member_that_failed(
    pgq: PgQueue, tasks: Tasks
) -> None:
    chained = await chain(tasks.odd.s(2), tasks.square.s(), tasks.square.s()).enqueue()
    members = await chord([tasks.odd.s(number) for number in (1, 2, 4)], tasks.notify.s("b")).enqueue()

    with pytest.raises(WorkflowFailed, match="2 is even") as raised:
        await chained.result(WITHIN)
    assert (raised.value.task, raised.value.workflow_id) == ("odd", chained.workflow_id)
    last = await pgq.get(chained.id)
    assert (last.status, last.reason) == (JobStatus.CANCELLED, "upstream_failed")
    with pytest.raises(WorkflowFailed, match="failed as well") as raised:
        await members.result(WITHIN)
    assert len(raised.value.failed) == 2
    assert await members.counts() == {JobStatus.SUCCEEDED: 1, JobStatus.FAILED: 2, JobStatus.CANCELLED: 1}
    assert tasks.runs["b"] == 0


@pytest.mark.contract("P7.15")
async def test_callbacks_run_once_with_the_outcome_of_the_whole(tasks: Tasks) -> None:
    good = group(tasks.odd.s(1), tasks.odd.s(3)).set(
        on_success=tasks.report.s("good"), on_error=tasks.report.s("not"), on_complete=tasks.report.s("both")
    )
    bad = chain(tasks.odd.s(2), tasks.square.s()).set(
        on_success=tasks.report.s("not"), on_error=[tasks.report.s("bad"), tasks.nothing.si("told")]
    )
    handle = await good.enqueue()
    assert await handle.result(WITHIN) == [1, 3]
    with pytest.raises(WorkflowFailed):
        await (await bad.enqueue()).result(WITHIN)
    await eventually(lambda: holds(sum(tasks.runs.values()) == 3 and tasks.starts == ["told"]))

    assert tasks.runs == {"good": 1, "both": 1, "bad": 1}
    told = {each.status: each for each in tasks.outcomes}
    assert told[JobStatus.SUCCEEDED].result == [1, 3]
    assert told[JobStatus.SUCCEEDED].job_id == handle.id
    assert told[JobStatus.CANCELLED].error is not None


async def test_a_result_that_the_next_task_does_not_take_fails_that_one_at_once(
    pgq: PgQueue, tasks: Tasks
) -> None:
    untyped: Any = tasks.square
    handle = await chain(tasks.extract.s(1), untyped.s(), untyped.s()).enqueue()

    with pytest.raises(WorkflowFailed, match="do not match the task") as raised:
        await handle.result(WITHIN)
    assert (raised.value.reason, raised.value.error_type) == ("invalid_inputs", "InvalidInputs")
    assert await pgq.attempts(raised.value.job_id) != []
    assert await handle.counts() == {JobStatus.SUCCEEDED: 1, JobStatus.FAILED: 1, JobStatus.CANCELLED: 1}


class Reversed:
    """A codec."""

    def encode(self, document: str) -> str:
        return json.dumps(document[::-1])

    def decode(self, stored: str) -> str:
        return str(json.loads(stored))[::-1]


async def test_results_go_on_through_a_codec_to_threads_and_to_tasks_known_by_name(dsn: str) -> None:
    async with PgQueue(dsn, codec=Reversed()) as pgq:
        tasks = Tasks(pgq)

        @pgq.task
        def times(number: int, *, factor: int) -> int:
            return number * factor

        @pgq.task
        async def listed(*numbers: int) -> list[int]:
            return list(numbers)

        untyped: Any = listed
        by_name: Any = chain(tasks.square.s(2), times.s(factor=5)) | pgq.signature("listed", 7)  # type: ignore[operator]
        streamed = chord(tasks.square.map(range(3)).members, tasks.stream.s("sum"))
        async with pgq.worker(poll_interval=0.1):
            assert await (await by_name.enqueue()).result(WITHIN) == [20, 7]
            rest: Any = chain(tasks.square.s(2), untyped.s(8, 9))
            assert await (await rest.enqueue()).result(WITHIN) == [4, 8, 9]
            assert await (await streamed.enqueue()).result(WITHIN) == "sum: 5 3"


@pytest.mark.contract("P7.23")
async def test_a_workflow_of_the_callers_transaction_is_there_with_its_commit_or_not_at_all(
    tasks: Tasks, db: Connection
) -> None:
    workflow = chord([tasks.square.s(1)], tasks.notify.s("tx"))
    transaction = db.transaction()
    await transaction.start()
    gone = await workflow.enqueue(connection=db)
    await transaction.rollback()
    async with db.transaction():
        kept = await workflow.enqueue(connection=db)
        with pytest.raises(JobNotFoundError):
            await kept.status()

    assert await kept.result(WITHIN) == "tx: [1]"
    with pytest.raises(JobNotFoundError):
        await gone.result(WITHIN)
    assert tasks.runs["tx"] == 1


@pytest.mark.contract("P7.17")
async def test_a_graph_of_named_nodes_gives_each_node_the_results_of_those_before_it(
    pgq: PgQueue, tasks: Tasks
) -> None:
    flow = pgq.workflow("onboarding")
    source = flow.add("source", tasks.extract.s(1))
    doubled = flow.add("doubled", tasks.transform.s(), after=[source])
    flow.add("pair", tasks.nested.s("pair"), after=[doubled, "source"])
    flow.add("late", tasks.nested.s("late"), after=["source"], join="done")
    handle = await flow.enqueue()

    pair, late = await handle.result(WITHIN)
    assert pair == ["pair", [[2, 4], [1, 2]]]
    assert (late[1][0]["status"], late[1][0]["result"]) == ("succeeded", [1, 2])
    assert (await handle.refresh()).name == "onboarding"
    drawn = json.loads(await handle.graph("json"))
    assert [job["task"] for job in drawn["jobs"]] == ["extract_data", "transform_data", "nested", "nested"]
    assert (len(drawn["joins"]), len(drawn["edges"])) == (1, 6)
    assert "flowchart LR" in await handle.graph("mermaid")
    assert "digraph" in await handle.graph("dot")


@pytest.mark.contract("P7.17")
async def test_a_job_can_depend_on_jobs_that_were_there_before(
    pgq: PgQueue, tasks: Tasks, db: Connection
) -> None:
    await pgq.pause(task="odd")
    jobs = [await tasks.odd.enqueue(number) for number in (1, 2)]
    ids = [job.id for job in jobs]
    after_one = await tasks.nothing.options(depends_on=[str(ids[0]), ids[0]], tags=["x"]).enqueue("one")
    after_both = await tasks.nothing.options(depends_on=ids).enqueue("both")
    async with db.transaction():
        anyway = await tasks.nothing.options(depends_on=ids, allow_failure=True, connection=db).enqueue(
            "anyway"
        )
    assert await after_one.status() is JobStatus.BLOCKED

    await pgq.resume(task="odd")

    assert await after_one.result(WITHIN) == "one"
    assert await anyway.result(WITHIN) == "anyway"
    with pytest.raises(JobCancelled, match="upstream_failed"):
        await after_both.result(WITHIN)
    over = await tasks.nothing.options(depends_on=[ids[0]]).enqueue("over")
    failed = await tasks.nothing.options(depends_on=[ids[1]]).enqueue("failed")
    unknown = await tasks.nothing.options(depends_on=[UUID(int=5)]).enqueue("unknown")
    assert await over.result(WITHIN) == "over"
    for handle in (failed, unknown):
        with pytest.raises(JobCancelled, match="upstream_failed"):
            await handle.result(WITHIN)
    assert await (await tasks.nothing.options(depends_on=[]).enqueue("alone")).result(WITHIN) == "alone"
    with pytest.raises(InvalidOptionError, match="by itself"):
        await pgq.enqueue_many([tasks.nothing.options(depends_on=ids).s("many")])
    with pytest.raises(InvalidOptionError, match="neither an 'id'"):
        await tasks.nothing.options(depends_on=ids, id=UUID(int=9)).enqueue("id")
    with pytest.raises(InvalidOptionError, match="list of ids"):
        tasks.nothing.options(depends_on=str(ids[0]))


@pytest.mark.contract("P7.21")
async def test_cancelling_ends_what_has_not_run_and_does_so_once(pgq: PgQueue, tasks: Tasks) -> None:
    await pgq.pause(task="square")
    handle = await chain(tasks.square.map([1, 2, 3]), tasks.notify.s("cancelled")).enqueue()

    assert await handle.cancel(reason="not needed") == 4
    # A job that was claimed and is put aside, because its task is paused, is asked again.
    await handle.cancel()
    with pytest.raises(JobCancelled):
        await handle.result(WITHIN)
    assert await handle.join(WITHIN) == {JobStatus.CANCELLED: 4}
    assert tasks.runs == {}


async def test_retrying_what_failed_lets_the_workflow_go_on(tasks: Tasks) -> None:
    handle = await chord([tasks.odd.s(number) for number in (1, 2, 4)], tasks.notify.s("mended")).enqueue()
    with pytest.raises(WorkflowFailed):
        await handle.result(WITHIN)
    tasks.is_mended = True

    assert await handle.retry_failed() == 2
    assert await handle.result(WITHIN) == "mended: [1, 2, 4]"


async def test_waiting_for_a_workflow_ends_with_the_timeout_and_one_that_is_not_there_is_said_so(
    pgq: PgQueue, tasks: Tasks
) -> None:
    await pgq.pause(task="square")
    handle = await tasks.square.map([1]).enqueue()

    with pytest.raises(ResultTimeoutError, match=r"within 0\.1 s"):
        await handle.result(0.1)
    with pytest.raises(JobNotFoundError):
        await pgq.workflow_handle(UUID(int=7)).result(WITHIN)


def bad_graphs(pgq: PgQueue, tasks: Tasks) -> Iterator[tuple[str, Any]]:
    """Yield what is refused, with a call that does it."""
    flow = pgq.workflow("bad")
    node = flow.add("a", tasks.square.s(1))
    other = pgq.workflow("other").add("a", tasks.square.s(1))
    yield "already has a node", lambda: flow.add("a", tasks.square.s(1))
    yield "does not have", lambda: flow.add("b", tasks.square.s(), after=["c"])
    yield "does not have", lambda: flow.add("b", tasks.square.s(), after=["b"])
    yield "of another workflow", lambda: flow.add("b", tasks.square.s(), after=[other])
    yield "twice", lambda: flow.add("b", tasks.square.s(), after=[node, "a"])
    yield "must be a list", lambda: flow.add("b", tasks.square.s(), after="a")
    yield "comes after nothing", lambda: flow.add("b", tasks.square.s(), after=[], join="done")
    yield "only 1 members", lambda: flow.add("b", tasks.square.s(), after=[node], join=at_least(2))
    yield "the name of a node", lambda: flow.add("", tasks.square.s(1))
    yield "the name of a workflow", lambda: pgq.workflow("")


async def test_a_graph_cannot_have_a_cycle_or_an_unknown_node(pgq: PgQueue) -> None:
    tasks = Tasks(pgq)
    for message, make in bad_graphs(pgq, tasks):
        with pytest.raises((InvalidWorkflowError, InvalidOptionError), match=message):
            make()
    with pytest.raises(InvalidWorkflowError, match="has no nodes"):
        await pgq.workflow("empty").enqueue()
