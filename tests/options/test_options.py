"""Options at four levels: call over task over queue over global; and what no level may say."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue import ConfigurationError, InvalidOptionError, PgQueue
from pgqueue.options.checks import MAX_PRIORITY
from pgqueue.options.declared import CallOptions, TaskOptions
from pgqueue.options.levels import restore_options

if TYPE_CHECKING:
    from conftest import Connection

DSN = "postgresql://nowhere/none"
LEVELS = ["global", "queue", "task", "call"]
SOON = datetime(2200, 1, 1, tzinfo=UTC)

# A value of its own for each level, in the order of LEVELS.
VALUES: dict[str, list[Any]] = {
    "priority": [1, 2, 3, 4],
    "delay": [10.0, 20.0, 30.0, 40.0],
    "expires": [100.0, 200.0, 300.0, 400.0],
    "tags": [("a",), ("b",), ("c",), ("d",)],
    "headers": [{"h": "a"}, {"h": "b"}, {"h": "c"}, {"h": "d"}],
    "idempotency_key": ["a", "b", "c", None],
    "idempotency_window": [10.0, 20.0, 30.0, None],
    "idempotency_scope": ["queue", "global", "tenant:a", "task"],
    "idempotency_while": ["started", "terminal", "success", "pending"],
    "on_conflict": ["raise", "replace", "debounce", "return"],
    "idempotency_fingerprint": [False, True, False, True],
    "soft_timeout": [1.0, 2.0, None, 4.0],
    "timeout": [10.0, 20.0, 30.0, None],
    "retry_on_timeout": [False, True, False, True],
    "max_retries": [1, 2, None, 4],
    "retry_backoff": [2.0, 3.0, 4.0, 5.0],
    "retry_backoff_max": [20.0, 30.0, 40.0, 50.0],
    "retry_jitter": ["none", "equal", "full", "none"],
    "retry_delay_min": [1.0, 2.0, 3.0, 4.0],
    "default_retry_delay": [1.0, 2.0, 3.0, 4.0],
    "max_retry_duration": [100.0, None, 300.0, 400.0],
    "retry_intervals": [(1.0,), (2.0, 2.0), (), (4.0,)],
    "max_losses": [1, 2, 4, 5],
    "acks_late": [False, True, False, True],
    "ignore_result": [True, False, True, False],
}
# What only a task, a queue or a PgQueue can set.
CODE: dict[str, list[Any]] = {
    "autoretry_for": [(OSError,), (ValueError,), (KeyError,)],
    "dont_autoretry_for": [(OSError,), (ValueError,), (KeyError,)],
    "throws": [(OSError,), (ValueError,), (KeyError,)],
    "retry_when": [lambda *_: True, lambda *_: False, None],
    "retry_policies": [{OSError: {"max_retries": 1}}, {}, {KeyError: {"max_retries": 3}}],
}
RETRY = {
    "max_retries": "max_retries",
    "max_retry_duration": "max_duration",
    "retry_intervals": "intervals",
    "retry_backoff": "backoff",
    "retry_backoff_max": "backoff_max",
    "retry_jitter": "jitter",
    "retry_delay_min": "delay_min",
    "default_retry_delay": "default_delay",
}
ATTEMPT = [*RETRY, "soft_timeout", "timeout", "retry_on_timeout", "acks_late", "max_losses", "ignore_result"]
# These may be set together: acks_late allows no losses.
TOGETHER = [name for name in ATTEMPT if name != "acks_late"]
ENQUEUE = [name for name in VALUES if name not in ATTEMPT]

bad_numbers = [math.nan, math.inf, -math.inf, "10", True, object()]
BAD: list[tuple[str, Any]] = [
    *(("delay", bad) for bad in bad_numbers),
    *(("expires", bad) for bad in [*bad_numbers, 0, -1, datetime(2030, 1, 1)]),  # noqa: DTZ001
    *(("timeout", bad) for bad in [*bad_numbers, 0, -1, timedelta(0)]),
    *(("soft_timeout", bad) for bad in [*bad_numbers, 0, -1, timedelta(0)]),
    *(("retry_on_timeout", bad) for bad in [None, 1, "yes"]),
    *(("acks_late", bad) for bad in [None, 1, "yes"]),
    *(("retry_backoff_max", bad) for bad in [*bad_numbers, 0, -1, None]),
    *(("retry_delay_min", bad) for bad in [*bad_numbers, -1, None]),
    *(("default_retry_delay", bad) for bad in [*bad_numbers, -1, None]),
    *(("retry_backoff", bad) for bad in [math.nan, math.inf, "10", 0, -1]),
    *(("max_retries", bad) for bad in [-1, 1.5, math.nan, "3", True]),
    *(("max_losses", bad) for bad in [-1, 1.5, math.nan, "3", True, None]),
    *(("priority", bad) for bad in [-32_769, 32_768, 1.0, math.nan, "1", True, None]),
    *(("queue", bad) for bad in ["", "a\0b", "q" * 201, None, 7]),
    *(("tags", bad) for bad in ["text", 7, [""], ["a\0b"], [7], ["t" * 513]]),
    *(("headers", bad) for bad in [[], {"a": 7}, {7: "a"}, {"a": "b\0"}, {"a\0": "b"}]),
    *(("max_retry_duration", bad) for bad in [*bad_numbers, 0, -1]),
    *(("retry_intervals", bad) for bad in [7, "12", [math.nan], [-1], [math.inf], [1, "2"], [None]]),
    *(("retry_jitter", bad) for bad in ["some", None, 1.5]),
    *(("ignore_result", bad) for bad in [None, 1, "yes"]),
    *(("idempotency_key", bad) for bad in ["", "a\0b", "k" * 513, "\ud800", 7]),
    *(("idempotency_window", bad) for bad in [*bad_numbers, 0, -1, timedelta(0), timedelta(seconds=-1)]),
    *(("idempotency_scope", bad) for bad in ["", "tenant", "tenant:", "tenant:a\0b", "jobs", None, 7]),
    *(("idempotency_while", bad) for bad in ["", "running", None, 7]),
    *(("on_conflict", bad) for bad in ["", "ignore", None, True]),
    *(("idempotency_fingerprint", bad) for bad in [None, 1, "yes"]),
    *(("reject_on_worker_lost", bad) for bad in [None, 1, "yes"]),
    *(
        ("redact", bad)
        for bad in ["text", 7, None, [""], [7], ["a..b"], [".a"], ["a."], ["**"], ["a.**"], ["a\0"]]
    ),
]
BAD_CALL: list[tuple[str, Any]] = [
    *(("run_at", bad) for bad in [datetime(2030, 1, 1), 10, "2030-01-01", math.nan]),  # noqa: DTZ001
    *(("key", bad) for bad in ["", "a\0b", "k" * 513, 7]),
    *(("id", bad) for bad in ["018f", 7]),
    *(("on_duplicate", bad) for bad in ["ignore", None, True]),
]


def queue_with(levels: dict[str, dict[str, Any]]) -> tuple[PgQueue, Any]:
    """Return a PgQueue, and its task with the options of the call, that set *levels*."""
    pgq = PgQueue(DSN, **levels.get("global", {}))
    pgq.queue("lane", **levels.get("queue", {}))

    @pgq.task(queue="lane", **levels.get("task", {}))
    async def work() -> None: ...

    return pgq, work.options(**levels.get("call", {}))


# Precedence


@pytest.mark.contract("P1.10")
@pytest.mark.parametrize("nearest", LEVELS)
@pytest.mark.parametrize("name", ATTEMPT)
def test_the_nearest_level_decides_how_an_attempt_runs(name: str, nearest: str) -> None:
    setting = LEVELS[: LEVELS.index(nearest) + 1]
    pgq, work = queue_with({level: {name: VALUES[name][LEVELS.index(level)]} for level in setting})

    # As a worker does it: the call's own options are stored with the job, the others looked up.
    call = restore_options(work.s().options.stored() or "{}")
    policy = pgq.registry.policy(work.definition, "lane", call)

    found = getattr(policy.retry, RETRY[name]) if name in RETRY else getattr(policy, name)
    assert found == VALUES[name][LEVELS.index(nearest)]


@pytest.mark.contract("P1.10")
@pytest.mark.parametrize("nearest", LEVELS)
@pytest.mark.parametrize("name", ENQUEUE)
def test_the_nearest_level_decides_what_is_enqueued(name: str, nearest: str) -> None:
    setting = LEVELS[: LEVELS.index(nearest) + 1]
    pgq, work = queue_with({level: {name: VALUES[name][LEVELS.index(level)]} for level in setting})

    options = pgq.registry.resolve("work", work.definition, work.s().options)

    assert options[name] == VALUES[name][LEVELS.index(nearest)]


@pytest.mark.contract("P1.10")
def test_the_queue_is_the_calls_then_the_tasks_then_the_global_one() -> None:
    pgq = PgQueue(DSN, queue="global")

    @pgq.task(queue="task")
    async def placed() -> None: ...

    @pgq.task
    async def unplaced() -> None: ...

    def queue_of(task: Any) -> Any:
        return pgq.registry.resolve(task.name, task.definition, task.s().options)["queue"]

    assert queue_of(placed.options(queue="call")) == "call"
    assert queue_of(placed) == "task"
    assert queue_of(unplaced) == "global"


@pytest.mark.contract("P1.10")
def test_the_queue_that_the_call_names_gives_its_options() -> None:
    pgq = PgQueue(DSN, priority=1)
    pgq.queue("slow", priority=2, timeout=20)

    @pgq.task
    async def work() -> None: ...

    moved = work.options(queue="slow")

    assert pgq.registry.resolve("work", work.definition, moved.s().options)["priority"] == 2
    assert pgq.registry.resolve("work", work.definition, work.s().options)["priority"] == 1
    assert pgq.registry.policy(work.definition, "slow").timeout == 20
    assert pgq.registry.policy(work.definition, "default").timeout == 3600


@pytest.mark.contract("P1.10")
async def test_what_a_call_sets_arrives_in_the_job(dsn: str) -> None:
    async with PgQueue(dsn, priority=1, tags=["global"]) as pgq:
        pgq.queue("lane", priority=2, tags=["queue"])

        @pgq.task(queue="lane", priority=3, headers={"from": "task"})
        async def work() -> None: ...

        job = await work.enqueue()
        near = await work.options(priority=-4, tags=["x", "y"], headers={"from": "call"}, key="k").enqueue()

        of_task, of_call = await job.refresh(), await near.refresh()
    assert (of_task.queue, of_task.priority, of_task.tags) == ("lane", 3, ("queue",))
    assert (of_task.headers, of_task.key) == ({"from": "task"}, None)
    assert (of_call.queue, of_call.priority, of_call.tags) == ("lane", -4, ("x", "y"))
    assert (of_call.headers, of_call.key) == ({"from": "call"}, "k")


@pytest.mark.contract("P1.10")
async def test_a_limit_that_the_call_sets_holds_at_the_worker(pgq: PgQueue) -> None:
    @pgq.task(max_retries=5, default_retry_delay=0)
    async def fail() -> None:
        raise ValueError("again")

    job = await fail.options(max_retries=1).enqueue()
    async with pgq.worker():
        await pgq.wait(job.id)

    assert (await job.refresh()).attempt == 2


def options_of_an_attempt(values: int) -> st.SearchStrategy[dict[str, Any]]:
    choices = {name: st.sampled_from(VALUES[name][:values]) for name in TOGETHER}
    return st.fixed_dictionaries({}, optional=choices).filter(
        lambda options: not (options.get("retry_intervals") and options.get("retry_backoff"))
    )


@pytest.mark.contract("P1.10")
@given(options_of_an_attempt(3), options_of_an_attempt(4))
def test_options_of_a_call_survive_being_stored(task: dict[str, Any], call: dict[str, Any]) -> None:
    pgq, work = queue_with({"task": task, "call": call})
    options = work.s().options

    restored = restore_options(options.stored() or "{}")

    assert pgq.registry.policy(work.definition, "lane", restored) == pgq.registry.policy(
        work.definition, "lane", options
    )


def test_options_of_a_newer_version_are_passed_over() -> None:
    options = restore_options('{"timeout": 5.0, "colour": "blue", "queue": "not of an attempt"}')

    assert options.stored() == '{"timeout": 5.0}'
    assert options["timeout"] == 5.0


@pytest.mark.contract("P1.10", "P2.28")
def test_a_fixed_delay_turns_the_backoff_of_wider_levels_off() -> None:
    pgq, work = queue_with({"global": {"retry_backoff": 2}, "call": {"default_retry_delay": 5}})

    retry = pgq.registry.policy(work.definition, "lane", work.s().options).retry

    assert (retry.backoff, retry.default_delay) == (None, 5.0)


def test_options_accumulate_over_calls_of_options() -> None:
    pgq = PgQueue(DSN)

    @pgq.task
    async def work() -> None: ...

    options = work.options(priority=1, timeout=5).options(priority=2).s().options

    assert (options["priority"], options["timeout"]) == (2, 5.0)
    assert work.s().options.stored() is None


def test_durations_are_seconds_or_timedeltas() -> None:
    _, work = queue_with({"call": {"timeout": timedelta(minutes=2), "delay": timedelta(hours=1)}})
    options = work.s().options

    assert (options["timeout"], options["delay"]) == (120.0, 3600.0)


@pytest.mark.contract("P8.2")
def test_at_front_is_the_highest_priority_and_set_alone() -> None:
    _, work = queue_with({})

    assert work.options(at_front=True).s().options["priority"] == MAX_PRIORITY
    assert "priority" not in work.options(at_front=False).s().options
    with pytest.raises(InvalidOptionError, match="both 'at_front' and 'priority'"):
        work.options(at_front=True, priority=3)
    with pytest.raises(InvalidOptionError, match="option 'at_front'"):
        work.options(at_front=1)


@pytest.mark.parametrize("level", LEVELS)
def test_reject_on_worker_lost_false_allows_no_loss(level: str) -> None:
    pgq, work = queue_with({level: {"reject_on_worker_lost": False}})

    assert pgq.registry.policy(work.definition, "lane", work.s().options).max_losses == 0


@pytest.mark.contract("P1.10")
@pytest.mark.parametrize("nearest", LEVELS[:3])
@pytest.mark.parametrize("name", CODE)
def test_the_nearest_level_decides_which_errors_are_retried(name: str, nearest: str) -> None:
    setting = LEVELS[: LEVELS.index(nearest) + 1]
    pgq, work = queue_with({level: {name: CODE[name][LEVELS.index(level)]} for level in setting})

    retry = pgq.registry.policy(work.definition, "lane").retry

    found = getattr(retry, "policies" if name == "retry_policies" else name)
    assert found == CODE[name][LEVELS.index(nearest)]


@pytest.mark.contract("P1.10", "P2.27")
def test_the_way_to_wait_that_a_level_sets_turns_off_those_of_wider_levels() -> None:
    pgq, work = queue_with({"task": {"retry_intervals": [7]}})
    _, backing_off = queue_with({"task": {"retry_intervals": [7]}, "call": {"retry_backoff": 2}})
    _, waiting = queue_with({"task": {"retry_intervals": [7]}, "call": {"default_retry_delay": 5}})
    _, both = queue_with({"task": {"retry_backoff": 7}, "call": {"retry_intervals": [9]}})

    def way_of(task: Any) -> tuple[Any, Any, Any]:
        call = restore_options(task.s().options.stored() or "{}")
        retry = pgq.registry.policy(task.definition, "lane", call).retry
        return retry.intervals, retry.backoff, retry.default_delay

    assert way_of(work) == ((7.0,), None, 60.0)
    assert way_of(backing_off) == ((), 2.0, 60.0)
    assert way_of(waiting) == ((), None, 5.0)
    assert way_of(both) == ((9.0,), None, 60.0)
    assert way_of(both.options(retry_backoff=3).options(retry_intervals=[1])) == ((1.0,), None, 60.0)


# Errors


@pytest.mark.contract("P1.4")
@pytest.mark.parametrize("name", [*CODE, "redact"])
def test_what_cannot_be_stored_with_a_job_is_refused_in_a_call(name: str) -> None:
    _, work = queue_with({})

    with pytest.raises(
        InvalidOptionError, match=f"option '{name}' cannot be set per call; set it on the task"
    ):
        work.options(**{name: []})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, bad) for name in ("autoretry_for", "throws") for bad in [int, "ValueError", [7], None]),
        ("dont_autoretry_for", [ValueError, "OSError"]),
        ("retry_when", True),
        ("retry_policies", [ValueError]),
        ("retry_policies", {"ValueError": {}}),
        ("retry_policies", {ValueError: 3}),
        ("retry_policies", {ValueError: {"timeout": 3}}),
        ("retry_policies", {ValueError: {"max_retries": -1}}),
    ],
)
def test_what_is_no_error_or_policy_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidOptionError, match=f"option '{name}'"):
        queue_with({"task": {name: value}})


@pytest.mark.contract("P2.27")
def test_a_retry_when_that_would_have_to_be_awaited_is_refused() -> None:
    async def when(attempt: int, exc: BaseException, job: Any) -> bool:
        return True

    with pytest.raises(InvalidOptionError, match="non-async function"):
        queue_with({"task": {"retry_when": when}})


@pytest.mark.contract("P1.4")
@pytest.mark.parametrize(("name", "value"), [*BAD, *BAD_CALL])
async def test_a_bad_value_in_a_call_is_refused_by_task_and_option(name: str, value: Any) -> None:
    pgq = PgQueue(DSN)

    @pgq.task
    async def work() -> None: ...

    with pytest.raises(InvalidOptionError, match=f"task 'work': option '{name}' "):
        work.options(**{name: value})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"idempotency_while": "started", "idempotency_window": 60}, "'idempotency_window' has no effect"),
        (
            {"idempotency_while": "forever", "idempotency_window": None},
            "'idempotency_window' has no effect",
        ),
        (
            {"on_conflict": "coalesce", "idempotency_while": "pending"},
            "on_conflict='coalesce' holds the key until",
        ),
    ],
)
def test_options_of_a_key_that_contradict_each_other_are_refused(options: Any, problem: str) -> None:
    with pytest.raises(InvalidOptionError, match=f"task 'work': {problem}"):
        PgQueue(DSN).task(name="work", **options)(lambda: None)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_refused_at_every_other_level(name: str, value: Any) -> None:
    pgq = PgQueue(DSN)
    options: Any = {name: value}

    with pytest.raises(InvalidOptionError, match=f"PgQueue: option '{name}'"):
        PgQueue(DSN, **options)
    with pytest.raises(InvalidOptionError, match="queue 'lane'"):
        pgq.queue("lane", **options)
    with pytest.raises(InvalidOptionError, match=f"task 'work': option '{name}'"):
        pgq.task(name="work", **options)(lambda: None)


@pytest.mark.contract("P1.4")
async def test_an_unknown_option_is_refused_and_nothing_is_written(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work() -> None: ...

    unknown: Any = {"prioritty": 3}

    with pytest.raises(InvalidOptionError, match=r"task 'work': unknown option 'prioritty'.*priority"):
        await work.options(**unknown).enqueue()
    with pytest.raises(InvalidOptionError, match="task 'work': unknown option 'prioritty'"):
        await pgq.enqueue_by_name("work", options=unknown)
    with pytest.raises(InvalidOptionError, match="task 'other': unknown option 'prioritty'"):
        pgq.task(name="other", **unknown)(lambda: None)
    with pytest.raises(InvalidOptionError, match="queue 'lane': unknown option 'prioritty'"):
        pgq.queue("lane", **unknown)
    with pytest.raises(InvalidOptionError, match="PgQueue: unknown option 'prioritty'"):
        PgQueue(DSN, **unknown)
    assert await db.fetchval("select count(*) from pgqueue.job") == 0


@pytest.mark.parametrize(
    "name", sorted(CallOptions.__annotations__.keys() - TaskOptions.__annotations__.keys())
)
def test_what_only_a_call_can_set_is_refused_elsewhere(name: str) -> None:
    options: Any = {name: None}

    with pytest.raises(InvalidOptionError, match=f"PgQueue: unknown option '{name}'"):
        PgQueue(DSN, **options)


@pytest.mark.contract("P1.4")
def test_options_that_contradict_each_other_are_refused() -> None:
    pgq = PgQueue(DSN)

    @pgq.task
    async def work() -> None: ...

    with pytest.raises(InvalidOptionError, match="both 'retry_intervals' and 'retry_backoff'"):
        work.options(retry_intervals=[1], retry_backoff=True)
    with pytest.raises(InvalidOptionError, match="both 'delay' and 'run_at'"):
        work.options(delay=5, run_at=SOON)
    with pytest.raises(InvalidOptionError, match="reject_on_worker_lost"):
        work.options(reject_on_worker_lost=False, max_losses=2)
    with pytest.raises(InvalidOptionError, match="cannot name a queue"):
        pgq.queue("lane", queue="other")


@pytest.mark.contract("P1.4")
@pytest.mark.parametrize("name", ["delay", "expires", "timeout", "retry_delay_min", "default_retry_delay"])
@pytest.mark.parametrize("seconds", [1e15, 1e300])
def test_a_duration_that_no_calendar_holds_is_refused(name: str, seconds: float) -> None:
    pgq = PgQueue(DSN)
    options: Any = {name: seconds}

    @pgq.task
    async def work() -> None: ...

    with pytest.raises(InvalidOptionError, match=f"task 'work': option '{name}'"):
        work.options(**options)


@pytest.mark.parametrize("dsn", ["", 7])
def test_a_dsn_that_is_no_text_is_refused(dsn: Any) -> None:
    with pytest.raises(ConfigurationError, match="DSN"):
        PgQueue(dsn)


@pytest.mark.parametrize("schema", ["", "Other", "a b", "1st", 'x"y', "x" * 41, "drop;--"])
def test_a_schema_name_that_would_need_quoting_is_refused(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        PgQueue(DSN, schema=schema)


def test_an_id_may_be_any_uuid() -> None:
    pgq = PgQueue(DSN)

    @pgq.task
    async def work() -> None: ...

    chosen = UUID(int=0)

    assert work.options(id=chosen).s().options["id"] == chosen
