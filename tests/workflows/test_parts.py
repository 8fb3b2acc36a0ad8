"""A large workflow is written in parts, one while the next one is compiled: all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kit.lines import line_to

from pgqueue import InvalidArgumentsError, JobStatus, PgQueue, QueueFullError, chord, group_of

if TYPE_CHECKING:
    from conftest import Connection

PART = 20
WITHIN = 60.0
TABLES = ("job", "ready", "blocked", "edge", "barrier", "callback", "workflow", "note")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgqueue.client.workflows.PART", PART)


async def count(db: Connection) -> dict[str, int]:
    """Return how many rows there are."""
    return {table: await db.fetchval(f"select count(*) from pgqueue.{table}") for table in TABLES}


class Tasks:
    """Tasks of a PgQueue: untyped, so that calls can be wrong."""

    def __init__(self, pgq: PgQueue) -> None:
        async def double(number: int) -> int:
            return 2 * number

        async def total(numbers: list[int]) -> int:
            return sum(numbers)

        async def note() -> None: ...

        self.double: Any = pgq.task(name="double")(double)
        self.total: Any = pgq.task(name="total")(total)
        self.note: Any = pgq.task(name="note")(note)

    def canvas(self, members: int, wrong_at: int | None = None) -> Any:
        """Return a chord of links and groups, whose members each add 4 times their number."""
        calls: list[Any] = [
            self.double.s("x" if number == wrong_at else number).set(on_success=self.note.si())
            | self.double.s()
            for number in range(members)
        ]
        return chord(calls, self.total.s()) | group_of([self.double.s(), self.double.s()])


@pytest.mark.contract("P7.2", "P7.13")
@pytest.mark.parametrize("members", [1, PART - 1, PART // 2, PART, 5 * PART])
@pytest.mark.parametrize("whose", ["own connection", "caller's", "limited queue", "dag"])
async def test_a_workflow_of_any_number_of_parts_runs_as_one(
    pgq: PgQueue, db: Connection, members: int, whose: str
) -> None:
    tasks = Tasks(pgq)
    canvas = tasks.canvas(members)
    if whose == "limited queue":
        pgq.queue("default", max_depth=1000)
    if whose == "caller's":
        async with db.transaction():
            handle = await canvas.enqueue(connection=db)
    elif whose == "dag":
        flow = pgq.workflow("in parts")
        before: Any = None
        for number in range(members):
            before = flow.add(f"first {number}", tasks.note.si(), after=[] if before is None else [before])
        flow.add("rest", canvas)
        flow.add("end", tasks.note.si(), after=["rest", f"first {members - 1}"])
        handle = await flow.enqueue()
    else:
        handle = await canvas.enqueue()

    async with pgq.worker(concurrency=50):
        result = await handle.result(timeout=WITHIN)

    assert result == (None if whose == "dag" else [4 * members * (members - 1)] * 2)
    assert await db.fetchval("select count(*) from pgqueue.workflow") == 1
    assert await db.fetchval("select count(*) from pgqueue.job where hooks & 8 > 0") == members
    assert sum((await handle.counts()).values()) == 2 * members + 3 + (members + 1) * (whose == "dag")


@pytest.mark.contract("P7.2")
@pytest.mark.parametrize("wrong_at", [0, PART, 3 * PART, 5 * PART - 1])
async def test_a_wrong_call_in_any_part_leaves_nothing_written(
    pgq: PgQueue, db: Connection, wrong_at: int
) -> None:
    tasks = Tasks(pgq)

    with pytest.raises(InvalidArgumentsError, match="number"):
        await tasks.canvas(5 * PART, wrong_at).enqueue()

    assert not any((await count(db)).values())
    # The connection is as good as before.
    assert (await pgq.get_workflow((await tasks.canvas(1).enqueue()).workflow_id)).status is JobStatus.BLOCKED


@pytest.mark.contract("P7.2")
async def test_a_queue_without_room_for_the_last_part_gets_none(pgq: PgQueue, db: Connection) -> None:
    pgq.queue("default", max_depth=4 * PART)

    with pytest.raises(QueueFullError):
        await Tasks(pgq).canvas(5 * PART).enqueue()

    assert not any((await count(db)).values())


@pytest.mark.contract("P1.5", "P7.2")
@pytest.mark.parametrize("cut_at", [b"COMMIT", b"BEGIN", b"987654"])
async def test_a_workflow_whose_line_is_cut_in_any_part_is_written_once(
    dsn: str, db: Connection, cut_at: bytes
) -> None:
    async with line_to(dsn) as (line, near), PgQueue(near, connect_options={"ssl": False}) as pgq:
        tasks = Tasks(pgq)
        await tasks.note.enqueue()
        before = await count(db)
        line.cut_at = cut_at
        calls = [tasks.double.s(987654 if number == 2 * PART else number) for number in range(3 * PART)]
        await chord(calls, tasks.total.s()).enqueue()

        assert line.cuts == 1
    after = await count(db)
    assert {table: after[table] - before[table] for table in ("job", "ready", "blocked", "edge")} == {
        "job": 3 * PART + 1,
        "ready": 3 * PART,
        "blocked": 1,
        "edge": 3 * PART,
    }
    assert after["workflow"] == 1
