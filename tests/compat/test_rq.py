"""RQ's interface over a PgQueue."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pgqueue import (
    ConfigurationError,
    DatabaseUnavailableError,
    InvalidArgumentsError,
    SoftTimeLimitExceeded,
)
from pgqueue.compat import ForeignAddressWarning, disconnect
from pgqueue.compat.rq import (
    Callback,
    Dependency,
    DuplicateJobError,
    Group,
    InvalidJobOperation,
    Job,
    JobTimeoutException,
    NoSuchJobError,
    Queue,
    Redis,
    Repeat,
    Retry,
    Worker,
    cancel_job,
    get_current_job,
    requeue_job,
)
from pgqueue.compat.rq.decorators import job as as_job
from pgqueue.compat.rq.exceptions import TimeoutFormatError

pytestmark = pytest.mark.contract("P8.11")

calls: list[tuple[Any, ...]] = []


@pytest.fixture
def connection(dsn: str) -> Iterator[Redis]:
    connection = Redis.from_url(dsn)
    calls.clear()
    yield connection
    disconnect(connection.pgqueue)


@pytest.fixture
def queue(connection: Redis) -> Queue:
    return Queue(connection=connection)


def work(queue: Queue) -> None:
    Worker([queue], connection=queue.connection).work(burst=True)


def add(a: int, b: int = 1) -> int:
    return a + b


def fail(n: int) -> None:
    raise ValueError(f"no {n}")


def refuse_twice() -> dict[str, Any]:
    job = get_current_job()
    assert job is not None
    job.meta["runs"] = job.meta.get("runs", 0) + 1
    job.save_meta()
    if job.meta["runs"] < 3:
        raise OSError("not yet")
    return job.meta


def ask_again() -> Any:
    job = get_current_job()
    assert job is not None
    return Retry(max=2) if job.record.attempt <= 2 else job.record.attempt


def sleep_in_parts() -> None:
    for _ in range(200):
        time.sleep(0.05)


def take_too_long() -> str:
    try:
        sleep_in_parts()
    except JobTimeoutException:
        return "stopped"
    return "slept"


def enqueue_another() -> str:
    job = get_current_job()
    assert job is not None
    return Queue("default", connection=job.connection).enqueue(add, 1).id


def succeeded(job: Job, connection: Redis, result: Any) -> None:
    calls.append(("succeeded", job.id, result))


def failed(job: Job, connection: Redis, kind: type, error: Exception, trace: Any) -> None:
    calls.append(("failed", job.id, kind.__name__, str(error)))


def test_what_is_enqueued_runs_and_says_what_came_of_it(queue: Queue) -> None:
    plain = queue.enqueue(add, 1, b=2, description="a sum", meta={"from": "test"})
    by_path = queue.enqueue(f"{__name__}.add", 3)
    bad = queue.enqueue(fail, 7)
    retried = queue.enqueue(refuse_twice, retry=Retry(max=3, interval=[0, 0]))
    asked = queue.enqueue(ask_again)
    late = queue.enqueue(take_too_long, job_timeout=1)
    too_late = queue.enqueue(sleep_in_parts, job_timeout=1, on_failure=failed, job_id="too late")
    behind = queue.enqueue(add, 1, depends_on=plain)
    nested = queue.enqueue(enqueue_another)
    before = plain.get_status(), behind.get_status(), len(queue), queue.job_ids[0]

    work(queue)

    assert before == ("queued", "deferred", 8, plain.id)
    assert plain.is_finished
    assert plain.return_value() == plain.result == 3
    assert (plain.description, plain.meta) == ("a sum", {"from": "test"})
    assert (plain.func_name, plain.kwargs, plain.origin) == (f"{__name__}.add", {"a": 1, "b": 2}, "default")
    assert by_path.return_value() == 4
    assert bad.is_failed
    assert bad.return_value() is None
    assert "ValueError: no 7" in str(bad.exc_info)
    assert retried.return_value() == retried.get_meta() == {"runs": 3}
    assert [each.type.name for each in retried.results()] == ["SUCCESSFUL"]
    assert asked.return_value() == 3
    assert [each.type.name for each in asked.results()] == ["SUCCESSFUL", "RETRIED", "RETRIED"]
    assert late.return_value() == "stopped"
    assert too_late.is_failed
    assert [call[:3] for call in calls] == [("failed", "too late", "SoftTimeLimitExceeded")]
    assert behind.return_value() == 2
    assert Job.fetch(nested.return_value(), connection=queue.connection).return_value() == 2
    assert queue.failed_job_registry.get_job_ids() == [bad.id, too_late.id]
    assert bad in queue.failed_job_registry
    assert queue.finished_job_registry.count == 8
    assert queue.is_empty()
    assert JobTimeoutException is SoftTimeLimitExceeded


def test_callbacks_are_called_by_the_worker_after_each_attempt(queue: Queue) -> None:
    good = queue.enqueue(add, 1, on_success=succeeded, on_failure=Callback(failed))
    bad = queue.enqueue(fail, 7, on_success=succeeded, on_failure=failed, retry=Retry(max=1), job_id="bad")

    work(queue)

    error = ("failed", "bad", "ValueError", "no 7")
    assert sorted(calls, key=repr) == sorted([("succeeded", good.id, 2), error, error], key=repr)
    assert bad.is_failed


def test_a_job_id_of_ones_own_finds_the_latest_job_that_has_it(queue: Queue) -> None:
    first = queue.enqueue(add, 1, job_id="report")
    work(queue)
    second = queue.enqueue(add, 2, job_id="report", unique=True)
    with pytest.raises(DuplicateJobError):
        queue.enqueue(add, 3, job_id="report", unique=True)

    found = Job.fetch("report", connection=queue.connection)

    assert (first.id, second.id, found.id) == ("report", "report", "report")
    assert found.get_status() == "queued"
    assert found.uuid == second.uuid
    assert first.return_value() == 2
    assert queue.fetch_job("report") == second
    assert queue.fetch_job("nothing") is None
    assert Job.fetch_many(["nothing", "report"], queue.connection) == [None, second]
    with pytest.raises(NoSuchJobError):
        Job.fetch("nothing", connection=queue.connection)


def test_options_of_a_call_become_those_of_its_job(queue: Queue) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    limited = queue.enqueue(add, 1, job_timeout="2m", ttl=60, at_front=True).record
    unlimited = (
        Queue(connection=queue.connection, default_timeout="1h").enqueue(add, 1, job_timeout=-1).record
    )
    by_queue = Queue(connection=queue.connection, default_timeout="1h").enqueue(add, 1).record
    retried = queue.enqueue(add, 1, retry=Retry(max=2, interval=[10, 20])).record
    later, then = queue.enqueue_in(timedelta(hours=1), add, 1), queue.enqueue_at(at, add, 1)
    explicit = queue.enqueue(add, args=(1,), kwargs={"b": 5}, result_ttl=0).record
    apart = queue.enqueue_call(add, args=(1,), kwargs={"b": 5}, timeout=7).record
    anyway = queue.enqueue(add, 1, depends_on=Dependency([later, then.id], allow_failure=True))

    assert (limited.options["soft_timeout"], limited.options["timeout"]) == (120, 180)
    assert limited.expires_at is not None
    assert limited.priority > apart.priority
    assert (unlimited.options["soft_timeout"], unlimited.options["timeout"]) == (None, None)
    assert by_queue.options["soft_timeout"] == 3600
    assert (retried.options["max_retries"], retried.options["retry_intervals"]) == (2, [10, 20])
    assert (later.get_status(), then.get_status(), anyway.get_status()) == (
        "scheduled",
        "scheduled",
        "deferred",
    )
    assert queue.scheduled_job_registry.get_scheduled_time(then) == at
    assert explicit.arguments == apart.arguments == {"a": 1, "b": 5}
    assert explicit.options["ignore_result"] is True
    assert apart.options["soft_timeout"] == 7


def test_jobs_are_cancelled_requeued_and_deleted(queue: Queue) -> None:
    waiting, emptied = queue.enqueue(add, 1), queue.enqueue(add, 2)
    bad = queue.enqueue(fail, 1, at_front=True)
    waiting.cancel()
    with pytest.raises(InvalidJobOperation):
        waiting.cancel()
    with pytest.raises(InvalidJobOperation):
        waiting.requeue()
    cancelled = waiting.get_status()
    emptied.delete()
    work(queue)
    queue.failed_job_registry.requeue(bad)
    again = bad.get_status()
    work(queue)
    requeue_job(bad.id, queue.connection)
    cancel_job(bad.id, queue.connection)

    assert cancelled == emptied.get_status() == "canceled"
    assert again == "queued"
    assert bad.is_canceled
    assert queue.canceled_job_registry.count == 3
    queue.enqueue(add, 1)
    queue.empty()
    assert queue.count == 0


def test_many_jobs_are_enqueued_at_once_and_found_by_their_group(queue: Queue) -> None:
    group = Group.create(queue.connection, name="nightly")
    data = [Queue.prepare_data(add, (n,), job_id=f"n{n}", result_ttl=60) for n in range(3)]

    jobs = group.enqueue_many(queue, data)
    with pytest.raises(InvalidArgumentsError):
        queue.enqueue_many([Queue.prepare_data(add, (1,)), Queue.prepare_data(add)])
    work(queue)

    assert [job.id for job in jobs] == [job.id for job in group.get_jobs()] == ["n0", "n1", "n2"]
    assert [job.return_value() for job in jobs] == [1, 2, 3]


def test_a_decorated_function_enqueues_itself(queue: Queue, connection: Redis) -> None:
    decorated: Any = as_job("mail", connection=connection, timeout=5, description="decorated")(add)

    job = decorated.delay(1, b=2, job_id="decorated")
    work(Queue("mail", connection=connection))

    assert (job.id, job.origin, job.timeout, job.description) == ("decorated", "mail", 5, "decorated")
    assert job.return_value() == decorated(1, b=2) == 3


def test_a_queue_that_is_not_async_runs_a_job_before_enqueue_returns(connection: Redis) -> None:
    queue = Queue("here", connection=connection, is_async=False)

    assert queue.enqueue(add, 1).return_value() == 2
    assert queue.enqueue(fail, 1).is_failed
    assert queue.enqueue_in(timedelta(hours=1), add, 1).is_scheduled


NOT_THERE: dict[str, Callable[[Queue], object]] = {
    "repeat": lambda queue: queue.enqueue(add, 1, repeat=3),
    "on_stopped": lambda queue: queue.enqueue(add, 1, on_stopped=failed),
    "Repeat": lambda queue: Repeat(times=3),
    "webhooks": lambda queue: queue.enqueue(add, 1, webhooks=["https://example.com"]),
    "rate_limit": lambda queue: queue.enqueue(add, 1, rate_limit=object()),
    "pipeline": lambda queue: queue.enqueue(add, 1, pipeline=object()),
    "result kept for ever": lambda queue: queue.enqueue(add, 1, result_ttl=-1),
    "failure kept for a year": lambda queue: queue.enqueue(add, 1, failure_ttl=365 * 86400),
    "retry at the front": lambda queue: Retry(max=1, enqueue_at_front=True),
    "limit of a callback": lambda queue: Callback(failed, timeout=5),
    "serializer": lambda queue: Queue(connection=queue.connection, serializer="json"),
    "meta saved elsewhere": lambda queue: queue.enqueue(add, 1).save_meta(),
    "data of one's own in Redis": lambda queue: queue.connection.set("a", "b"),
    "a job that is not enqueued": lambda queue: Job.create(add),
    "a limit on jobs": lambda queue: Worker([queue]).work(max_jobs=3),
    "dependents of a cancelled job": lambda queue: queue.enqueue(add, 1).cancel(enqueue_dependents=True),
}


def test_what_is_not_there_says_what_to_do_instead(queue: Queue) -> None:
    for call in NOT_THERE.values():
        with pytest.raises(NotImplementedError, match=r"is not available over pgqueue: \w+"):
            call(queue)


BAD: dict[str, tuple[type[Exception], Callable[[Queue], object]]] = {
    "too few arguments": (InvalidArgumentsError, lambda queue: queue.enqueue(add)),
    "another type": (InvalidArgumentsError, lambda queue: queue.enqueue(add, "one")),
    "no function of a module": (ValueError, lambda queue: queue.enqueue(lambda: None)),
    "no function": (TypeError, lambda queue: queue.enqueue(7)),  # type: ignore[arg-type]
    "an unknown option": (TypeError, lambda queue: queue.enqueue_call(add, (1,), job_timeot=5)),
    "a bad time": (TimeoutFormatError, lambda queue: queue.enqueue(add, 1, job_timeout="soon")),
    "unique without an id": (ValueError, lambda queue: queue.enqueue(add, 1, unique=True)),
    "no such dependency": (NoSuchJobError, lambda queue: queue.enqueue(add, 1, depends_on="nothing")),
    "a retry of RQ's": (TypeError, lambda queue: queue.enqueue(add, 1, retry=3)),
    "no retries": (ValueError, lambda queue: Retry(max=0)),
    "a connection to Redis": (TypeError, lambda queue: Queue(connection=object())),  # type: ignore[arg-type]
    "no connection": (TypeError, lambda queue: Queue()),
    "explicit and other arguments": (ValueError, lambda queue: queue.enqueue(add, 1, args=(2,))),
}


def test_bad_input_is_an_error_at_the_call_and_changes_nothing(queue: Queue) -> None:
    for kind, call in BAD.values():
        with pytest.raises(kind):
            call(queue)

    assert queue.is_empty()


def stop_the_worker() -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    return "finished"


def test_a_worker_finishes_what_it_runs_when_it_is_told_to_stop(queue: Queue) -> None:
    before = signal.getsignal(signal.SIGTERM)
    job = queue.enqueue(stop_the_worker)

    assert Worker([queue]).work()
    assert job.return_value() == "finished"
    assert signal.getsignal(signal.SIGTERM) is before


async def test_it_is_called_inside_a_running_event_loop_too(queue: Queue) -> None:
    job = queue.enqueue(add, 1)

    assert job.get_status() == "queued"


def test_a_worker_runs_functions_of_the_users_own_modules_alone(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reports.py").write_text("def build():\n    return 'built'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    own = queue.enqueue("reports.build")
    others = [queue.enqueue(path) for path in ("os.getpid", "pgqueue.testing.drain", "pytest.main")]
    queue.enqueue(stop_the_worker)

    Worker([queue]).work()

    assert own.return_value() == "built"
    assert [other.is_started or other.is_finished for other in others] == [False, False, False]


def test_nothing_is_connected_to_before_something_is_enqueued() -> None:
    queue = Queue(connection=Redis.from_url("postgresql://127.0.0.1:1/nothing"))

    with pytest.raises(DatabaseUnavailableError):
        queue.enqueue(add, 1)


def test_an_address_of_redis_is_passed_over_where_the_environment_names_a_database(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="PGQUEUE_DSN"):
        Redis(host="redis.example")
    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    with pytest.warns(ForeignAddressWarning) as warned:
        connection = Redis(host="redis.example", port=6380, password="secret")
    try:
        assert connection.ping()
    finally:
        disconnect(connection.pgqueue)
    assert len(warned) == 1
    assert "secret" not in str(warned[0].message)


def test_a_queue_keeps_what_was_declared_of_it(connection: Redis) -> None:
    connection.pgqueue.queue("mail", ageing=60)
    Queue("mail", connection=connection)
    assert connection.pgqueue.registry.ageing == {"mail": 60}
