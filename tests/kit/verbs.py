"""All that can be done to the store, by clients, workers and the upkeep, each as a call in the same scene."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID, uuid4

from kit import inside
from kit.whole_store.draining import ALL, ZERO, attend, rescue
from pgqueue import DeadLetterFilter, JobFilter, PgQueue, WorkflowFilter, chain, chord, group
from pgqueue.client.schedules import Schedules
from pgqueue.model.ids import new_id
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, PutAside, Released, Restarted, Retried, Succeeded, Suspended
from pgqueue.model.webhooks import Webhook
from pgqueue.schedules.ticker import plan
from pgqueue.store import Place, Settled, Store, Underway
from pgqueue.upkeep.retention import FIRST_ID, LAST_ID

if TYPE_CHECKING:
    from conftest import Connection

    from pgqueue.options.declared import CallOptions

ERROR: Final = JobError("ValueError", "no")
NAME: Final = "ghost"


@dataclass
class Scene:
    """A job in every place, and the lease under which some of them run."""

    ids: dict[str, UUID] = field(default_factory=dict)
    lease: UUID = field(default_factory=uuid4)
    other_lease: UUID = field(default_factory=uuid4)
    lost_lease: UUID = field(default_factory=uuid4)
    workflow: UUID = ZERO
    node: UUID = ZERO
    hold: UUID = field(default_factory=uuid4)
    redrive: UUID = field(default_factory=uuid4)
    receipt: UUID = ZERO
    asked_receipt: UUID = ZERO
    bulk: UUID = field(default_factory=uuid4)
    new: UUID = field(default_factory=new_id)
    fresh: UUID = field(default_factory=uuid4)


def declare(pgq: PgQueue) -> None:
    """Declare the tasks of the scene."""
    one = pgq.limit("one", slots=1)
    pgq.queue("shared", fair_by="key", window=1)
    group_ = pgq.ordered("line")

    @pgq.task
    async def work(key: str = "a") -> None: ...

    @pgq.schedule(every=600)
    @pgq.task
    async def declared() -> None: ...

    @pgq.task(limits=[one])
    async def limited(key: str = "a") -> None: ...

    @pgq.task(ordered_by=group_.by("key"))
    async def ordered(key: str = "a") -> None: ...


def call(pgq: PgQueue, task: str = "work", **options: Any) -> Any:
    """Return a call of a task of the scene."""
    known = pgq.registry.get(task)
    assert known is not None
    return pgq.signature(task, options=cast("CallOptions", options))


async def set_scene(pgq: PgQueue, connection: Connection) -> Scene:  # noqa: C901  # a place after the other
    """Make the scene. *connection* is one of pgqueue's own."""
    scene, store = Scene(), inside.store(pgq)
    for priority in (0, 1, 3, 4):
        await connection.execute("select pgqueue.lane_of('default', $1::smallint)", priority)
    for lease in (scene.lease, scene.other_lease, scene.lost_lease):
        await store.register_lease(
            connection,
            lease,
            NAME,
            ["default"],
            36_000,
            prefetch=0,
            lock_key=None,
            max_losses={},
            tasks=["work"],
        )

    async def claimed(name: str, lease: UUID, *, starts: bool = True, **options: Any) -> UUID:
        job_id = (await pgq.enqueue(call(pgq, tags=[name], **options))).id
        scene.ids[name] = job_id
        lanes = [(row["id"], 0) for row in await connection.fetch("select id from pgqueue.lane")]
        if starts:
            assert [job.id for job in await store.claim(connection, lease, 10, lanes)] == [job_id]
        else:
            assert [row[0] for row in await store.prefetch(connection, lease, 10, lanes)] == [job_id]
        return job_id

    succeeded = await claimed("succeeded", scene.lease)
    await store.record_step(connection, succeeded, scene.lease, "step", "1", Place(1, "step", None))
    await store.finish(connection, scene.lease, NAME, [succeeded], ["1"])
    for name in ("failed", "failed too"):
        failed = await claimed(name, scene.lease)
        await store.fail(connection, scene.lease, NAME, [Ended(failed, JobStatus.FAILED, "exception", ERROR)])
    suspended = await claimed("suspended", scene.lease)
    await store.suspend(connection, scene.lease, [Suspended(suspended, None, None, "called")])
    called = await claimed("called", scene.lease)
    await store.suspend(connection, scene.lease, [Suspended(called, None, None, "called")])
    await store.signal(connection, called, "called", "1", None, is_deferred=True)
    aside = await claimed("aside", scene.lease)
    await store.make_lanes(connection, [("default", 0, "unknown")])
    await store.put_aside(connection, scene.lease, [PutAside(aside, "unknown", "default", 0)])
    await connection.execute("update pgqueue.ready set lane = lane where false")
    stash = "update pgqueue.lane set paused = id = (select lane from pgqueue.ready where job_id = $1)"
    await connection.execute(stash, aside)
    await claimed("running", scene.lease, idempotency_key="busy", on_conflict="coalesce")
    for name in ("running too", "asked"):
        await claimed(name, scene.lease)
    await pgq.cancel(scene.ids["asked"])
    await claimed("ahead", scene.lease, starts=False)
    await claimed("ahead elsewhere", scene.other_lease, starts=False)
    for name in ("lost", "lost too"):
        await claimed(name, scene.lost_lease)
    asked_late = await claimed("asked late", scene.other_lease)
    await pgq.cancel(asked_late)
    await store.finish(connection, scene.other_lease, NAME, [asked_late], None)
    await store.take_limiter(
        connection, scene.hold, ("slots", "door", 1, None), scene.ids["running"], scene.lease, waits=False
    )
    await connection.execute(
        "update pgqueue.lease set expires_at = now() - interval '1 second' where id = $1", scene.lost_lease
    )
    for name in ("received", "received asked", "received late"):
        scene.ids[name] = (await pgq.enqueue(call(pgq, tags=[name], queue="inbox"))).id
    received = await store.receive(connection, "inbox", 3, 36_000, NAME, None, "{}", uuid4())
    scene.receipt, scene.asked_receipt, late = (row.receipt for row in received)
    await pgq.cancel(scene.ids["received asked"])
    await connection.execute("update pgqueue.lease set expires_at = now() where id = $1", late)
    waiting: dict[str, dict[str, Any]] = {
        "pending": {"priority": 1}, "scheduled": {"delay": 1000}, "due": {"delay": 1000},
        "expired": {"expires": 1000}, "keyed": {"idempotency_key": "held"},
        "followed": {"idempotency_key": "line", "on_conflict": "coalesce"},
    }  # fmt: skip
    for name, options in waiting.items():
        scene.ids[name] = (await pgq.enqueue(call(pgq, tags=[name], **options))).id
    for name in ("limited", "limited too", "ordered", "ordered too"):
        scene.ids[name] = (await pgq.enqueue(call(pgq, name.split()[0], tags=[name]))).id
    flow = await pgq.enqueue_workflow(chord([call(pgq), call(pgq)], call(pgq)))
    scene.workflow, scene.node = flow.workflow_id, flow.id
    behind = await pgq.enqueue(call(pgq, depends_on=[scene.ids["running"]]))
    scene.ids["behind"] = behind.id
    await pgq.schedules.create("ticks", call(pgq), every=600)
    await connection.execute(
        "update pgqueue.schedule set next_at = now() - interval '1 s', due_at = now() - interval '1 s'; "
        "update pgqueue.lane set paused = false; "
        f"update pgqueue.scheduled set scheduled_at = now() where job_id = '{scene.ids['due']}'; "
        f"update pgqueue.job set expires_at = now() where id = '{scene.ids['expired']}'; "
        f"update pgqueue.expiry set check_at = now() where job_id = '{scene.ids['expired']}'; "
        f"update pgqueue.ready set ready_at = now() - interval '1 hour' where job_id = '{aside}'"
    )
    await store.begin_redrive(
        connection, scene.redrive, DeadLetterFilter(task="none"), rate=10.0, queue=None, reset_attempts=True,
        reason=None, actor=None,
    )  # fmt: skip
    await store.begin_bulk(
        connection,
        scene.bulk,
        "requeue",
        JobFilter(task="none"),
        None,
        expected=None,
        reason=None,
        actor=None,
    )
    await store.mark_processed(connection, "source", "old", 1.0, uuid4())
    await connection.execute(
        "update pgqueue.inbox set expires_at = now(); select pgqueue.set_paused('queue', 'other', true)"
    )
    return scene


# Clients

IN: Final[Mapping[str, str]] = {
    "redrive": "failed", "discard": "failed", "dead_letter": "failed", "requeue": "succeeded",
    "restart_from": "succeeded", "fork": "succeeded", "signal": "suspended", "wait": "succeeded",
    "watch": "succeeded", "cancel": "scheduled", "run_now": "scheduled", "edit": "scheduled",
}  # fmt: skip
"""The job that a method is called with, where it is not the pending one."""
NAMES: Final = {"set_ordered": "line", "resume_key": "line", "signal": "called"}
TOLD: Final = Webhook("work", "default", 0, frozenset({JobStatus.FAILED}), check_url=str)
VALUES: Final[Mapping[str, Callable[[PgQueue, Scene, str], Any]]] = {
    "job_id": lambda _, scene, name: scene.ids[IN.get(name, "pending")],
    "ids": lambda _, scene, __: [scene.ids["pending"], scene.ids["failed"]],
    "chosen": lambda _, __, name: WorkflowFilter() if name == "workflows" else JobFilter(task="work"),
    "wanted": lambda *_: DeadLetterFilter(task="work"),
    "signature": lambda pgq, *_: call(pgq),
    "signatures": lambda pgq, *_: [
        call(pgq), call(pgq, delay=60), call(pgq, "limited"), call(pgq, "limited", delay=60),
        call(pgq, "ordered"), call(pgq, idempotency_key="fresh"), call(pgq, webhooks=[TOLD]),
        call(pgq, idempotency_key="busy", on_conflict="coalesce"),
        call(pgq, idempotency_key="held", on_conflict="replace", priority=4),
    ],
    "verb": lambda *_: "cancel",
    "task": lambda *_: "work",
    "name": lambda _, __, name: NAMES.get(name, "one"),
    "priority": lambda *_: 3,
    "source": lambda *_: "source",
    "workflow_id": lambda _, scene, __: scene.workflow,
    "canvas": lambda pgq, *_: chain(group(call(pgq), call(pgq)), call(pgq)),
    "dag": lambda pgq, *_: _dag(pgq),
    "owner": lambda *_: "ann",
    "queue": lambda _, __, name: {"set_weight": "shared", "weights": "shared", "receive": "default"}.get(
        name, "empty"
    ),
    "session": lambda *_: "session",
    "event_id": lambda *_: "event",
    "step": lambda *_: "step",
    "key": lambda *_: "a",
    "weight": lambda *_: 2.0,
}  # fmt: skip
OPTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "configure_task": {"max_retries": 1},
    "set_limit": {"slots": 2},
    "set_ordered": {"on_dead": "skip"},
    "end_web_session": {"valid_until": time.time() + 3600},
    "pause": {"queue": "default"},
    "resume": {"queue": "other"},
    "workflow_result": {"timeout": 0.5},
    "workflow_results": {"timeout": 0.5},
    "join_workflow": {"timeout": 0.5},
    "cancel_many": {},
    "edit": {"priority": 4},
}
LEFT_OUT: Final[Mapping[str, str]] = {
    "open": "opens connections and moves nothing",
    "close": "closes connections and moves nothing",
    "migrate": "tests/store/test_migrations.py cuts each of its statements",
    "index_owners": "makes an index, in statements that each may be done again",
}
"""Methods that this matrix is not for, and why."""


def _dag(pgq: PgQueue) -> Any:
    flow = pgq.workflow("flow")
    flow.add("a", call(pgq))
    flow.add("b", call(pgq), after=["a"])
    return flow


Verb = Callable[[PgQueue, Scene], Awaitable[Any]]


def client_verbs() -> dict[str, Verb]:
    """Return a call of each public method."""
    found: dict[str, Verb] = {}
    for name, method in inspect.getmembers(PgQueue, inspect.isfunction):
        is_many = inspect.isasyncgenfunction(method)
        if name.startswith("_") or name in LEFT_OUT:
            continue
        if is_many or inspect.iscoroutinefunction(method) or name == "watch":
            found[name] = _caller(name, method)
    schedules = {
        "create": lambda pgq: pgq.schedules.create("new", call(pgq), every=60),
        "edit": lambda pgq: pgq.schedules.edit("ticks", every=60),
        "pause": lambda pgq: pgq.schedules.pause("ticks"),
        "resume": lambda pgq: pgq.schedules.resume("ticks"),
        "run_now": lambda pgq: pgq.schedules.run_now("ticks"),
        "delete": lambda pgq: pgq.schedules.delete("ticks"),
        "get": lambda pgq: pgq.schedules.get("ticks"),
        "list": lambda pgq: pgq.schedules.list(),
        "history": lambda pgq: pgq.schedules.history("ticks"),
        "measure": lambda pgq: pgq.schedules.measure(),
    }
    methods = {
        name
        for name, method in inspect.getmembers(Schedules, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    assert methods <= schedules.keys()
    for name, run in schedules.items():
        found[f"schedules.{name}"] = partial(_of_schedules, run)
    found["enqueue of limited"] = lambda pgq, _: pgq.enqueue(call(pgq, "limited"))
    found["enqueue of ordered"] = lambda pgq, _: pgq.enqueue(call(pgq, "ordered"))
    found["enqueue_many of limited"] = lambda pgq, _: pgq.enqueue_many(
        [call(pgq, "limited"), call(pgq, "limited")]
    )
    found["enqueue_many of ordered"] = lambda pgq, _: pgq.enqueue_many(
        [call(pgq, "ordered"), call(pgq, "ordered")]
    )
    found["write_schedules"] = _write_schedules
    found["bulk_handle.cancel"] = lambda pgq, scene: pgq.bulk_handle(scene.bulk).cancel()
    found["bulk_handle.progress"] = lambda pgq, scene: pgq.bulk_handle(scene.bulk).progress()
    found["redrive_handle.cancel"] = lambda pgq, scene: pgq.redrive_handle(scene.redrive).cancel()
    found["redrive_handle.progress"] = lambda pgq, scene: pgq.redrive_handle(scene.redrive).progress()
    return found


async def _write_schedules(pgq: PgQueue, _: Scene) -> None:
    inside.forget_declared(pgq)
    await pgq.write_schedules()


async def _of_schedules(run: Callable[[PgQueue], Awaitable[Any]], pgq: PgQueue, _: Scene) -> None:
    await run(pgq)


def _caller(name: str, method: Callable[..., Any]) -> Verb:
    async def run(pgq: PgQueue, scene: Scene) -> None:
        options = dict(OPTIONS.get(name, {}))
        given = []
        for parameter in list(inspect.signature(method).parameters.values())[1:]:
            if parameter.kind is parameter.VAR_KEYWORD or parameter.kind is parameter.VAR_POSITIONAL:
                continue
            is_needed = parameter.default is parameter.empty or parameter.name in ("chosen", "wanted")
            if not is_needed or (parameter.name in options and parameter.kind is parameter.KEYWORD_ONLY):
                continue
            value = (
                options.pop(parameter.name)
                if parameter.name in options
                else VALUES[parameter.name](pgq, scene, name)
            )
            given.append(value)
        answer = getattr(pgq, name)(*given, **options)
        if hasattr(answer, "__aiter__"):
            async for _ in answer:
                break
            await answer.aclose()
        else:
            await answer

    return run


# Workers and the upkeep: on one connection, by the real statements

StoreVerb = Callable[[Store, "Connection", Scene], Awaitable[Any]]


async def _lanes(connection: Connection) -> list[int]:
    return [
        row["id"] for row in await connection.fetch("select id from pgqueue.lane order by priority desc, id")
    ]


async def _claim_again(store: Store, connection: Connection, scene: Scene) -> None:
    """Claim as a worker does that does not know whether it has: what it does not know of returns first."""
    known = [scene.ids[name] for name in ("running", "running too", "asked", "ahead")]
    async with connection.transaction():
        await connection.fetch(_text(store, "lock_lease"), scene.lease)
        await store.release_unknown(connection, scene.lease, known)


def _text(store: Store, name: str) -> str:
    return inside.statement(store, name)


async def _claim(store: Store, connection: Connection, scene: Scene) -> None:
    await _claim_again(store, connection, scene)
    await store.claim(connection, scene.lease, 3, [(lane, 0) for lane in await _lanes(connection)])


async def _claim_one(store: Store, connection: Connection, scene: Scene) -> None:
    await _claim_again(store, connection, scene)
    await store.claim_one(connection, scene.lease, scene.ids["pending"])


async def _prefetch(store: Store, connection: Connection, scene: Scene) -> None:
    await _claim_again(store, connection, scene)
    await store.prefetch(connection, scene.lease, 3, [(lane, 0) for lane in await _lanes(connection)])


async def _take_again(store: Store, connection: Connection, scene: Scene) -> None:
    await store.take_again(connection, scene.lease, [Underway(scene.ids["keyed"], 1, 0, 1.0)])


async def _take_over(store: Store, connection: Connection, scene: Scene) -> None:
    await store.take_over_prefetched(connection, scene.lease, 5, await _lanes(connection))


async def tick(store: Store, connection: Connection, scene: Scene, ticker: Any) -> None:
    async with connection.transaction():
        rows = await store.take_due(connection, 10, (), has_cron=True)
        if rows:
            await ticker.write(connection, [plan(row, None) for row in rows])


async def _redrive_some(store: Store, connection: Connection, scene: Scene) -> None:
    await store.begin_redrive(
        connection,
        scene.fresh,
        DeadLetterFilter(),
        rate=1e6,
        queue=None,
        reset_attempts=True,
        reason=None,
        actor=None,
    )


async def _refill(store: Store, connection: Connection) -> None:
    await store.refill(connection, await _lanes(connection), ZERO, 10, 4)


async def _expire_lease(store: Store, connection: Connection, scene: Scene) -> None:
    at = await connection.fetchval("select renewed_at from pgqueue.lease where id = $1", scene.other_lease)
    await store.expire_lease(connection, scene.other_lease, at)


async def _delete_lease(store: Store, connection: Connection, scene: Scene) -> None:
    await store.delete_lease(connection, scene.other_lease)


async def _remake(store: Store, connection: Connection, scene: Scene) -> None:
    await store.remake_leases(connection, [scene.lease, scene.fresh])


async def _end_and_attend(store: Store, connection: Connection, scene: Scene) -> None:
    await store.finish(connection, scene.lease, NAME, [scene.ids["running"]], ["1"])
    await attend(store, connection)


async def _place(store: Store, connection: Connection, scene: Scene) -> None:
    ids = await store.walk_ids(connection, ZERO, 1000)
    await store.keep_one_place(connection, ids)
    await store.queue_strays(connection, ids)


STORE_VERBS: Final[Mapping[str, StoreVerb]] = {
    "claim": _claim,
    "claim_one": _claim_one,
    "prefetch": _prefetch,
    "start": lambda store, c, s: store.start(c, s.lease, [s.ids["ahead"]]),
    "take_over_prefetched": _take_over,
    "hold_suspects": lambda store, c, s: store.hold_suspects(c, s.lease, [s.ids["running"]]),
    "secure_claim": lambda store, c, s: store.secure_claim(c, s.ids["running"], s.lease),
    "take_again": _take_again,
    "refill": lambda store, c, s: _refill(store, c),
    "finish": lambda store, c, s: store.finish(
        c, s.lease, NAME, [s.ids["running"], s.ids["running too"]], ["1", "2"]),
    "fail": lambda store, c, s: store.fail(
        c, s.lease, NAME, [Ended(s.ids["running"], JobStatus.FAILED, "exception", ERROR)]),
    "retry": lambda store, c, s: store.retry(
        c, s.lease, NAME, [Retried(s.ids[name], 60.0, "exception", ERROR) for name in ("running", "asked")]),
    "snooze": lambda store, c, s: store.retry(
        c, s.lease, NAME, [Retried(s.ids["running"], 60.0, "snoozed", None, spent=False)]),
    "release": lambda store, c, s: store.release(c, s.lease, NAME, [s.ids["running"], s.ids["asked"]]),
    "release_unknown": _claim_again,
    "make_lanes": lambda store, c, s: store.make_lanes(c, [("default", 0, "work")]),
    "put_aside": lambda store, c, s: store.put_aside(
        c, s.lease, [PutAside(s.ids["running"], "unknown", "default", 0)]),
    "suspend": lambda store, c, s: store.suspend(
        c, s.lease, [Suspended(s.ids["running"], None, None, "other")]),
    "suspend for jobs": lambda store, c, s: store.suspend(
        c, s.lease, [Suspended(s.ids["running"], None, None, None, (s.ids["running too"],))]),
    "restart": lambda store, c, s: store.restart(c, s.lease, [Restarted(s.ids["running"], '{"key": "b"}')]),
    "settle_wait": lambda store, c, s: store.settle_wait(
        c, s.ids["running"], s.lease, "wait", "called", None, Place(1, "event", None)),
    "record_step": lambda store, c, s: store.record_step(c, s.ids["running"], s.lease, "step", "1"),
    "report_progress": lambda store, c, s: store.report_progress(
        c, [(s.lease, s.ids["running"], '{"current": 1, "total": 2, "meta": null}')]),
    "fail_broken": lambda store, c, s: store.fail_broken(
        c, s.ids["running"], "broken_row", ERROR, NAME, s.lease),
    "take_limiter": lambda store, c, s: store.take_limiter(
        c, s.fresh, ("slots", "door", 2, None), s.ids["running too"], s.lease, waits=True),
    "leave_limiter": lambda store, c, s: store.leave_limiter(c, s.hold),
    "sweep_limiters": lambda store, c, s: store.sweep_limiters(c, ZERO, 100),
    "register_lease": lambda store, c, s: store.register_lease(
        c, s.fresh, NAME, ["default"], 60, prefetch=0, lock_key=None, max_losses={}),
    "renew_lease": lambda store, c, s: store.renew_lease(c, s.lease, 60),
    "expire_lease": _expire_lease,
    "delete_lease": _delete_lease,
    "remake_leases": _remake,
    "rescue": lambda store, c, s: rescue(store, c, s.lost_lease, 100, 3),
    "rescue one": lambda store, c, s: rescue(store, c, s.lost_lease, 1, 0),
    "attend": lambda store, c, s: store.attend(c, None, 1000),
    "attend after an end": _end_and_attend,
    "promote": lambda store, c, s: store.promote(c, 100),
    "wake": lambda store, c, s: store.wake(c, 100),
    "unblock": lambda store, c, s: store.unblock(c, 100),
    "expire": lambda store, c, s: store.expire(c, 100),
    "carry_out_cancels": lambda store, c, s: store.carry_out_cancels(c, 100),
    "fail_unknown": lambda store, c, s: store.fail_unknown(c, 60.0, [], 100),
    "raise_waiting": lambda store, c, s: store.raise_waiting(c, "default", 1.0, 100),
    "sweep_gates": lambda store, c, s: store.sweep_gates(c, ZERO, 100),
    "sweep_edges": lambda store, c, s: store.sweep_edges(c, ZERO, 100, 0.0),
    "watch_workflows": lambda store, c, s: store.watch_workflows(c, ZERO, 100),
    "purge": lambda store, c, s: store.purge(c, FIRST_ID, LAST_ID, 1000, ALL),
    "forget_range": lambda store, c, s: store.forget_range(c, FIRST_ID, FIRST_ID),
    "purge_keys": lambda store, c, s: store.purge_keys(c, 100),
    "purge_inbox": lambda store, c, s: store.purge_inbox(c, 100),
    "purge_bulk": lambda store, c, s: store.purge_bulk(c, 100),
    "purge_redrives": lambda store, c, s: store.purge_redrives(c, 100),
    "purge_stats": lambda store, c, s: store.purge_stats(c, 100),
    "merge_stats": lambda store, c, s: store.merge_stats(c, 100),
    "record_stats": lambda store, c, s: store.record_stats(c, []),
    "walk and place": _place,
    "remake_lanes": lambda store, c, s: store.remake_lanes(c, list(s.ids.values())),
    "look_at_lanes": lambda store, c, s: store.look_at_lanes(c, 0, 100),
    "remove_lanes": lambda store, c, s: store.remove_lanes(c, 0.0, 100),
    "delete_lanes": lambda store, c, s: store.delete_lanes(c, 0.0, 100),
    "take_chore": lambda store, c, s: store.take_chore(c, "chore", s.fresh, 60.0),
    "end_chore": lambda store, c, s: store.end_chore(c, "chore", s.fresh, 60.0),
    "make_partitions": lambda store, c, s: store.make_partitions(c, 1),
    "advance_ids": lambda store, c, s: store.advance_ids(c),
    "begin_bulk": lambda store, c, s: store.begin_bulk(
        c, s.fresh, "cancel", JobFilter(), None, expected=1, reason=None, actor=None),
    "hold_bulk": lambda store, c, s: store.hold_bulk(c, s.bulk),
    "note_bulk": lambda store, c, s: store.note_bulk(c, s.bulk, s.fresh, found=2, done=1, is_done=True),
    "discard_jobs": lambda store, c, s: store.discard_jobs(c, list(s.ids.values()), None, None),
    "begin_redrive": _redrive_some,
    "carry_redrive": lambda store, c, s: store.carry_redrive(c, 100),
    "skip_redriven": lambda store, c, s: store.skip_redriven(c, s.redrive),
    "discard_some": lambda store, c, s: store.discard_some(
        c, DeadLetterFilter(), 1000, reason=None, actor=None),
    "return_paused": lambda store, c, s: store.return_paused(c),
    "set_schedule_aside": lambda store, c, s: store.set_schedule_aside(c, "ticks", "no"),
    "note_declared": lambda store, c, s: store.note_declared(c, {"ticks": None}),
    "notify": lambda store, c, s: store.notify(c, "pgqueue", ["attend"]),
    "reach_standby": lambda store, c, s: store.reach_standby(c),
    "await_claims": lambda store, c, s: store.await_claims(c),
    "hold_lock": lambda store, c, s: c.fetchval(_text(store, "hold_lock"), 7),
    "adopt_workflow": lambda store, c, s: store.adopt_workflow(c, s.workflow, s.ids["running"]),
    "hold_member": lambda store, c, s: store.hold_member(c, s.ids["running"]),
    "receive": lambda store, c, s: store.receive(
        c, "default", 1000, 36_000, NAME, None, "{}", s.fresh, again=True),
    "ack": lambda store, c, s: store.end_receipt(
        c, s.receipt, Succeeded(s.ids["received"], "1"), Settled(), hand_over=True),
    "nack": lambda store, c, s: store.end_receipt(
        c, s.receipt, Retried(s.ids["received"], 60.0, "nacked", ERROR), Settled(), hand_over=True),
    "nack to cancel": lambda store, c, s: store.end_receipt(
        c, s.asked_receipt, Retried(s.ids["received asked"], 60.0, "nacked", ERROR), Settled(),
        hand_over=True),
    "nack for the last time": lambda store, c, s: store.end_receipt(
        c, s.receipt, Ended(s.ids["received"], JobStatus.FAILED, "nacked", ERROR), Settled(), hand_over=True),
    "release a receipt": lambda store, c, s: store.end_receipt(
        c, s.receipt, Released(s.ids["received"]), Settled(), hand_over=True),
    "extend_receipt": lambda store, c, s: store.extend_receipt(c, s.ids["received"], s.receipt, 60.0),
    "extend": lambda store, c, s: store.extend(c, s.ids["running"], s.workflow),
}  # fmt: skip
