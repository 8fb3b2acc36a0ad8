"""A job that is moved into another queue, or gets other arguments, passes the limits that it has there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from kit.command_line import Cli
from kit.faults import Ghost, ghost
from kit.web_client import client_of

from pgqueue import DeadLetterFilter, InvalidOptionError, PgQueue, Task
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Retried
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

TOKEN = "a-token-of-enough-characters"
ERROR = JobError("ValueError", "no")


@dataclass
class Place:
    """A PgQueue whose queue "narrow" lets one job through, and a worker that does what it is told."""

    pgq: PgQueue
    dsn: str
    db: Connection
    holder: Ghost
    work: Task[..., None]

    async def attend(self) -> None:
        """Have all come that is due, and attend to all that was noted."""
        connection = self.holder.connection
        await connection.execute("update pgqueue.scheduled set scheduled_at = now()")
        await self.holder.store.promote(connection, 100)
        while (await self.holder.store.attend(connection, None, 1000)).taken:
            pass

    async def fail(self, ids: Sequence[UUID]) -> None:
        """Have all ready jobs start, and fail those of *ids*."""
        await self.holder.claim()
        ends = [Ended(each, JobStatus.FAILED, "exception", ERROR) for each in ids]
        await self.holder.store.fail(self.holder.connection, self.holder.lease_id, self.holder.name, ends)

    async def retry(self, ids: Sequence[UUID]) -> None:
        """Have all ready jobs start, and those of *ids* wait to be retried."""
        await self.holder.claim()
        retries = [Retried(each, 3600.0, "exception", ERROR) for each in ids]
        await self.holder.store.retry(self.holder.connection, self.holder.lease_id, self.holder.name, retries)

    async def finish(self, ids: Sequence[UUID]) -> None:
        """Have all ready jobs start, and finish those of *ids*."""
        await self.holder.claim()
        holder = self.holder
        await holder.store.finish(holder.connection, holder.lease_id, holder.name, ids, None)

    async def stands(self, ids: Sequence[UUID]) -> list[str]:
        return [str(await self.db.fetchval("select pgqueue.status_of($1)::text", job_id)) for job_id in ids]

    async def gates(self, job_id: UUID) -> list[str] | None:
        gates: list[str] | None = await self.db.fetchval(
            "select gates from pgqueue.job where id = $1", job_id
        )
        return gates

    async def finish_one_after_another(self, ids: Sequence[UUID]) -> None:
        """See that one of *ids* is let through as another one ends, and that nothing is held then."""
        left = list(ids)
        while left:
            await self.attend()
            stands = dict(zip(left, await self.stands(left), strict=True))
            [through] = [each for each, status in stands.items() if status in ("pending", "running")]
            assert [status for each, status in stands.items() if each != through] == ["blocked"] * (
                len(left) - 1
            )
            await self.finish([through])
            left.remove(through)
        assert await self.db.fetchval("select count(*) from pgqueue.gate_pass") == 0


@pytest.fixture
async def place(pgq: PgQueue, dsn: str, db: Connection) -> AsyncIterator[Place]:
    for queue in ("default", "narrow", "shared"):
        await db.execute("select pgqueue.lane_of($1, 0::smallint)", queue)
    pgq.queue("narrow", slots=1)

    @pgq.task(limits=[pgq.limit("tenant", slots=9).by("tenant")])
    async def work(tenant: str) -> None: ...

    async with ghost(pgq) as holder:
        yield Place(pgq, dsn, db, holder, work)


# Into a queue that has a limit, by every door

Act = Callable[[Place, Sequence[UUID]], Awaitable[object]]
DOORS: dict[str, tuple[str, Act]] = {}
"""By name, where jobs stand before, and what moves them."""


def door(*standing: str) -> Callable[[Act], Act]:
    """Add a door for jobs that stand so."""

    def add(act: Act) -> Act:
        for each in standing:
            DOORS[f"{act.__name__.replace('_', ' ')} {each} jobs"] = (each, act)
        return act

    return add


@door("pending", "scheduled", "retried", "prefetched")
async def edit(place: Place, ids: Sequence[UUID]) -> None:
    for job_id in ids:
        await place.pgq.edit(job_id, queue="narrow")


@door("pending")
async def edit_both(place: Place, ids: Sequence[UUID]) -> None:
    for job_id in ids:
        await place.pgq.edit(job_id, queue="narrow", arguments={"tenant": "b"})


@door("pending", "scheduled")
async def edit_by_sql(place: Place, ids: Sequence[UUID]) -> None:
    for job_id in ids:
        await place.db.execute("select pgqueue.edit($1, 'narrow')", job_id)


@door("pending")
async def edit_by_http(place: Place, ids: Sequence[UUID]) -> None:
    async with client_of(status_app(place.pgq, token=TOKEN)) as client:
        for job_id in ids:
            answer = await client.patch(
                f"/jobs/{job_id}", json={"queue": "narrow"}, headers={"Authorization": f"Bearer {TOKEN}"}
            )
            assert answer.is_success, answer.text


@door("pending", "retried")
async def edit_where_nothing_is_declared(place: Place, ids: Sequence[UUID]) -> None:
    async with PgQueue(place.dsn) as other:
        for job_id in ids:
            await other.edit(job_id, queue="narrow")


@door("failed")
async def redrive(place: Place, ids: Sequence[UUID]) -> None:
    for job_id in ids:
        await place.pgq.redrive(job_id, queue="narrow")


@door("failed")
async def redrive_both(place: Place, ids: Sequence[UUID]) -> None:
    for job_id in ids:
        await place.pgq.redrive(job_id, queue="narrow", arguments={"tenant": "b"})


@door("failed")
async def redrive_by_sql(place: Place, ids: Sequence[UUID]) -> None:
    for job_id in ids:
        await place.db.execute("select pgqueue.redrive($1, 'narrow')", job_id)


@door("failed")
async def redrive_by_http(place: Place, ids: Sequence[UUID]) -> None:
    async with client_of(status_app(place.pgq, token=TOKEN)) as client:
        for job_id in ids:
            answer = await client.post(
                f"/dead-letters/{job_id}/redrive",
                json={"queue": "narrow"},
                headers={"Authorization": f"Bearer {TOKEN}"},
            )
            assert answer.is_success, answer.text


@door("failed")
async def redrive_many(place: Place, ids: Sequence[UUID]) -> None:
    await place.pgq.redrive_many(DeadLetterFilter(), all=True, queue="narrow", rate=1000)
    await place.holder.connection.execute(
        "update pgqueue.mass_redrive set carried_at = now() - interval '1 minute'"
    )
    await place.holder.store.carry_redrive(place.holder.connection, 100)


@door("failed")
async def redrive_by_command(place: Place, ids: Sequence[UUID]) -> None:
    cli = Cli(place.dsn, "dead")
    for job_id in ids:
        code, _, said = await cli("redrive", job_id, "--to-queue=narrow")
        assert code == 0, said


UNKNOWING = {"sql", "declared", "command"}
"""Words in the names of doors behind which nobody knows the task: what is limited, the database knows."""


@pytest.mark.contract("P3.13")
@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        (name, is_known)
        for name in DOORS
        for is_known in (True, False)
        if is_known or UNKNOWING.isdisjoint(name.split())
    ],
)
async def test_jobs_that_are_moved_into_a_queue_wait_for_its_limit(
    place: Place, name: str, *, is_known: bool
) -> None:
    standing, act = DOORS[name]
    if is_known:
        first = await place.work.options(queue="narrow").enqueue("a")
        await place.finish([first.id])
    delay = 3600 if standing == "scheduled" else None
    ids = [(await place.work.options(delay=delay).enqueue("a")).id for _ in range(3)]
    match standing:
        case "retried":
            await place.retry(ids)
        case "failed":
            await place.fail(ids)
        case "prefetched":
            assert len(await place.holder.prefetch()) == len(ids)

    await act(place, ids)

    for job_id in ids:
        gates = await place.gates(job_id)
        assert gates is not None
        assert gates[::2] == ["tenant", "queue/narrow"]
    await place.finish_one_after_another(ids)


async def test_a_job_that_leaves_a_queue_leaves_its_limit_to_the_next_one(place: Place) -> None:
    narrow = place.work.options(queue="narrow")
    through, waiting, behind = [(await narrow.enqueue("a")).id for _ in range(3)]

    await place.pgq.edit(through, queue="wide")
    await place.pgq.edit(behind, queue="wide")
    await place.attend()

    assert await place.stands([through, waiting, behind]) == ["pending"] * 3
    assert await place.gates(through) == ["tenant", "a"]
    await place.finish([through, waiting, behind])
    assert await place.db.fetchval("select count(*) from pgqueue.gate_pass") == 0


async def test_a_job_keeps_what_it_holds_of_limits_that_do_not_change(place: Place) -> None:
    pgq = place.pgq

    @pgq.task(limits=[pgq.limit("once", slots=1, when_full="drop")])
    async def once() -> None: ...

    job = await once.enqueue()
    await pgq.edit(job.id, queue="narrow")
    dropped = await once.enqueue()
    await place.attend()

    assert await place.stands([job.id, dropped.id]) == ["pending", "cancelled"]


# Other arguments


@pytest.mark.contract("P3.13")
@pytest.mark.parametrize("is_redriven", [True, False], ids=["redriven", "edited"])
async def test_a_job_with_other_arguments_has_their_keys_and_gives_the_old_ones_back(
    place: Place, *, is_redriven: bool
) -> None:
    pgq = place.pgq

    @pgq.task(limits=[pgq.limit("user", slots=1).by("user")])
    async def mail(user: str) -> None: ...

    job = (await mail.enqueue("a")).id
    if is_redriven:
        await place.fail([job])
    other = (await mail.enqueue("b")).id
    behind = (await mail.enqueue("a")).id

    await (pgq.redrive if is_redriven else pgq.edit)(job, arguments={"user": "b"})
    await place.attend()

    assert await place.gates(job) == ["user", "b"]
    assert await place.stands([job, other, behind]) == ["blocked", "pending", "pending"]
    await place.finish([other, behind])
    await place.attend()
    assert await place.stands([job]) == ["pending"]


@pytest.mark.contract("P8.4")
async def test_an_edited_job_goes_to_the_end_of_the_line_of_its_new_key(place: Place) -> None:
    pgq = place.pgq

    @pgq.task(ordered_by="account")
    async def book(account: int) -> None: ...

    first, second = (await book.enqueue(1)).id, (await book.enqueue(1)).id
    others = [(await book.enqueue(2)).id for _ in range(2)]
    # It has started, so that it stays at the head of its line meanwhile.
    await place.retry([first])

    await pgq.edit(first, arguments={"account": 2})
    await place.attend()

    assert await place.stands([second]) == ["pending"]
    for job_id in (*others, first):
        assert await place.stands([job_id]) in (["pending"], ["running"])
        await place.finish([job_id])
        await place.attend()


@pytest.mark.contract("P8.4")
async def test_a_job_that_has_halted_its_line_leaves_it_once_the_key_is_resumed(place: Place) -> None:
    pgq = place.pgq

    @pgq.task(ordered_by="account", on_dead="halt")
    async def book(account: int) -> None: ...

    first, second = (await book.enqueue(1)).id, (await book.enqueue(1)).id
    await place.fail([first])

    with pytest.raises(
        InvalidOptionError, match=r"redrive: job .* has halted its line.*resume key 1 of group"
    ):
        await pgq.redrive(first, arguments={"account": 2})
    assert await place.stands([first, second]) == ["failed", "blocked"]
    await pgq.resume_key(book.name, 1)
    await pgq.redrive(first, arguments={"account": 2})
    await place.attend()

    assert await place.stands([first, second]) == ["pending", "pending"]


async def test_a_job_that_blocks_its_line_lets_it_go_on_when_it_is_redriven_into_another(
    place: Place,
) -> None:
    @place.pgq.task(ordered_by="account")
    async def book(account: int) -> None: ...

    first, second = (await book.enqueue(1)).id, (await book.enqueue(1)).id
    await place.fail([first])

    await place.pgq.redrive(first, arguments={"account": 2})
    await place.attend()

    assert await place.stands([first, second]) == ["pending", "pending"]


async def test_a_job_that_comes_to_a_fair_queue_stands_in_the_window_of_its_key(place: Place) -> None:
    place.pgq.queue("shared", fair_by="tenant", window=1)
    edited, redriven = [(await place.work.enqueue(tenant)).id for tenant in "ab"]
    await place.fail([redriven])
    alone = (await place.work.enqueue("c")).id

    await place.holder.store.release(
        place.holder.connection, place.holder.lease_id, place.holder.name, [edited]
    )
    await place.pgq.edit(edited, queue="shared")
    await place.pgq.redrive(redriven, queue="shared")
    # SQL does not know the key: it goes to the end of the queue.
    await place.db.execute("select pgqueue.edit($1, 'shared')", alone)
    await place.attend()

    assert await place.gates(edited) == ["fair/shared", "a", "tenant", "a"]
    assert await place.gates(redriven) == ["fair/shared", "b", "tenant", "b"]
    assert await place.gates(alone) == ["tenant", "c"]
    assert await place.stands([edited, redriven, alone]) == ["pending"] * 3
    await place.pgq.edit(edited, arguments={"tenant": "b"})
    await place.attend()
    assert await place.gates(edited) == ["fair/shared", "b", "tenant", "b"]


async def test_arguments_that_have_no_key_are_refused_and_change_nothing(place: Place) -> None:
    pgq = place.pgq

    @pgq.task(limits=[pgq.limit("user", slots=1).by(lambda user: user["name"])])
    async def mail(user: dict[str, str]) -> None: ...

    job = (await mail.enqueue({"name": "a"})).id

    with pytest.raises(Exception, match="the key of limit 'user' could not be computed") as caught:
        await pgq.edit(job, arguments={"user": {}})

    assert type(caught.value).__name__ == "InvalidArgumentsError"
    assert await place.gates(job) == ["user", "a"]
    assert await pgq.actions(job) == []


async def test_sql_that_edits_with_a_wrong_list_of_limits_changes_nothing(place: Place) -> None:
    job = (await place.work.enqueue("a")).id
    await place.fail([job])
    waiting = (await place.work.enqueue("a")).id
    wrong = json.dumps([["tenant"]])

    for sql in ("select pgqueue.edit($1, gates => $2)", "select pgqueue.redrive_through($1, gates => $2)"):
        job_id = waiting if "edit" in sql else job
        with pytest.raises(Exception, match=f"job {job_id}: each of its limits must have a name"):
            await place.db.execute(sql, job_id, wrong)

    assert await place.stands([job, waiting]) == ["failed", "pending"]
