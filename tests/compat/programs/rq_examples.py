"""What RQ documents, as examples: each enqueues, yields while a worker works, and returns what came of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from redis import Redis
from rq import Callback, Queue, Retry, SimpleWorker, cancel_job, get_current_job, requeue_job
from rq.decorators import job as as_job
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Dependency, Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry
from rq.timeouts import JobTimeoutException

connection = Redis.from_url(os.environ["EXAMPLES_BROKER"])
queue = Queue("examples", connection=connection)
told: list[Any] = []

Example = Generator[None, None, Any]


def add(a: int, b: int = 1) -> int:
    return a + b


def fail(n: int) -> None:
    raise ValueError(f"no {n}")


def count_runs(until: int) -> int:
    job = get_current_job()
    job.meta["runs"] = job.meta.get("runs", 0) + 1
    job.save_meta()
    if job.meta["runs"] < until:
        raise OSError("not yet")
    runs: int = job.meta["runs"]
    return runs


def ask_for_another() -> Any:
    job = get_current_job()
    job.meta["runs"] = job.meta.get("runs", 0) + 1
    job.save_meta()
    return Retry(max=2) if job.meta["runs"] < 3 else job.meta["runs"]


def sleep_too_long() -> str:
    try:
        for _ in range(200):
            time.sleep(0.05)
    except JobTimeoutException:
        return "told"
    return "slept"


def who_am_i() -> list[Any]:
    job = get_current_job()
    return [job.id, job.origin, job.get_status(refresh=False).value]


def enqueue_from_within() -> str:
    return queue.enqueue(add, 10, job_id="from-within").id


async def add_async(a: int) -> int:
    return a + 1


def on_success(job: Any, connection: Any, result: Any) -> None:
    told.append(["success", job.id, result])


def on_failure(job: Any, connection: Any, kind: Any, value: Any, trace: Any) -> None:
    told.append(["failure", job.id, kind.__name__, str(value)])


def example_enqueue() -> Example:
    job = queue.enqueue(add, 1, b=2)
    before = [job.get_status(), job.is_queued, job.return_value()]
    yield
    return [before, job.get_status(), job.is_finished, job.return_value(), job.exc_info]


def example_enqueue_a_path() -> Example:
    job = queue.enqueue("rq_examples.add", args=(1,), kwargs={"b": 5})
    yield
    return [job.func_name, job.return_value()]


def example_enqueue_call() -> Example:
    job = queue.enqueue_call(func=add, args=(3,), kwargs={"b": 4}, timeout=30, description="a sum")
    yield
    return [job.return_value(), job.description, job.timeout]


def example_async_function() -> Example:
    job = queue.enqueue(add_async, 1)
    yield
    return job.return_value()


def example_failure() -> Example:
    job = queue.enqueue(fail, 7, job_id="failing")
    yield
    assert job.exc_info is not None
    return [job.get_status(), job.is_failed, job.return_value(), job.exc_info.splitlines()[-1]]


def example_retry() -> Example:
    good, bad = (
        queue.enqueue(count_runs, 3, retry=Retry(max=3)),
        queue.enqueue(count_runs, 5, retry=Retry(max=1)),
    )
    yield
    return [[each.get_status(), each.get_meta()] for each in (good, bad)]


def example_results() -> Example:
    job = queue.enqueue(count_runs, 2, retry=Retry(max=1))
    yield
    latest = job.latest_result()
    assert latest is not None
    return [latest.type.name, latest.return_value, [each.type.name for each in job.results()]]


def example_attempts_that_asked_for_another() -> Example:
    job = queue.enqueue(ask_for_another)
    yield
    return [each.type.name for each in job.results()]


def example_returned_retry() -> Example:
    job = queue.enqueue(ask_for_another)
    yield
    return [job.get_status(), job.return_value()]


def example_time_limit() -> Example:
    job = queue.enqueue(sleep_too_long, job_timeout=1)
    yield
    return [job.get_status(), job.return_value()]


def example_meta() -> Example:
    job = queue.enqueue(add, 1, meta={"by": "ann"})
    yield
    return [job.meta, job.get_meta()]


def example_current_job() -> Example:
    job = queue.enqueue(who_am_i, job_id="who")
    yield
    return [job.return_value(), get_current_job()]


def example_callbacks() -> Example:
    queue.enqueue(
        add, 1, job_id="calls-back", on_success=Callback(on_success), on_failure=Callback(on_failure)
    )
    queue.enqueue(
        fail, 1, job_id="calls-too", on_success=Callback(on_success), on_failure=Callback(on_failure)
    )
    yield
    return sorted(told)


def example_dependencies() -> Example:
    first, failing = queue.enqueue(add, 1), queue.enqueue(fail, 1)
    after = queue.enqueue(add, 2, depends_on=first)
    several = queue.enqueue(add, 3, depends_on=[first, after])
    anyway = queue.enqueue(add, 4, depends_on=Dependency(jobs=[failing], allow_failure=True))
    before = [each.get_status() for each in (after, several, anyway)]
    yield
    return [before, [[each.get_status(), each.return_value()] for each in (after, several, anyway)]]


def example_at_front() -> Example:
    later, sooner = queue.enqueue(add, 1), queue.enqueue(add, 2, at_front=True)
    place = queue.job_ids.index(sooner.id) < queue.job_ids.index(later.id)
    yield
    return place


def example_many() -> Example:
    data = [Queue.prepare_data(add, (n,), job_id=f"many-{n}", timeout=30) for n in range(3)]
    jobs = queue.enqueue_many(data)
    yield
    return [[job.id, job.return_value()] for job in jobs]


def example_fetch() -> Example:
    queue.enqueue(add, 1, job_id="fetched")
    yield
    found = Job.fetch("fetched", connection=connection)
    missing = queue.fetch_job("nothing")
    try:
        Job.fetch("nothing", connection=connection)
    except NoSuchJobError as error:
        return [
            found.return_value(),
            missing,
            type(error).__name__,
            Job.exists("fetched", connection=connection),
        ]
    return "it was found"


def example_fetch_many() -> Example:
    queue.enqueue(add, 5, job_id="one-of-many")
    yield
    found = Job.fetch_many(["one-of-many", "nothing"], connection=connection)
    return [None if each is None else each.return_value() for each in found]


def example_cancel() -> Example:
    job, other = queue.enqueue(add, 1), queue.enqueue(add, 2, job_id="cancelled")
    job.cancel()
    cancel_job("cancelled", connection=connection)
    yield
    try:
        job.cancel()
    except InvalidJobOperation as error:
        return [job.get_status(), other.get_status(), job.return_value(), type(error).__name__]
    return "cancelled twice"


def example_enqueued_from_within() -> Example:
    job = queue.enqueue(enqueue_from_within)
    yield
    return [job.return_value(), Job.fetch("from-within", connection=connection).return_value()]


def example_decorator() -> Example:
    decorated: Any = as_job("examples", connection=connection, timeout=10)(add)
    job = decorated.delay(1, b=1)
    yield
    return [job.return_value(), decorated(1), job.timeout]


def example_not_async() -> Example:
    here = Queue("here", connection=connection, is_async=False)
    good, bad = here.enqueue(add, 1), here.enqueue(fail, 1)
    yield
    return [good.get_status(), good.return_value(), bad.get_status()]


def example_queue() -> Example:
    other = Queue("other", connection=connection)
    jobs = [other.enqueue(add, n) for n in range(3)]
    found = [len(other), other.count, other.is_empty(), other.job_ids == [job.id for job in jobs]]
    some = [other.get_job_ids(1, 1) == [jobs[1].id], [job.id for job in other.jobs] == other.job_ids]
    other.empty()
    yield
    return [found, some, len(other), other.is_empty()]


def example_registries() -> Example:
    apart = Queue("apart", connection=connection)
    good, bad = apart.enqueue(add, 1), apart.enqueue(fail, 1)
    again = apart.enqueue(fail, 2, job_id="failed-again")
    yield
    failed = FailedJobRegistry(queue=apart)
    finished = FinishedJobRegistry("apart", connection=connection)
    ids = sorted(failed.get_job_ids()) == sorted([bad.id, again.id])
    counts = [failed.count, finished.count, ids, bad in failed]
    requeued = [failed.requeue(bad.id), requeue_job("failed-again", connection=connection)]
    try:
        failed.requeue(good)
    except InvalidJobOperation as error:
        return [counts, [job.get_status() for job in requeued], len(apart), type(error).__name__]
    return "requeued"


def example_status_as_text() -> Example:
    job = queue.enqueue(add, 1, job_timeout=-1, retry=Retry(max=2, interval=[1, 2]))
    before = [str(job.get_status()), f"{job.get_status()}", job.timeout, job.retry_intervals]
    yield
    return before


def main() -> None:
    """Run the examples, and write what came of each as JSON."""
    examples = {name: value() for name, value in globals().items() if name.startswith("example_")}
    for example in examples.values():
        next(example)
    SimpleWorker(["examples", "apart"], connection=connection).work(burst=True)
    outcomes = {}
    for name, example in examples.items():
        try:
            next(example)
        except StopIteration as end:
            outcomes[name.removeprefix("example_")] = end.value
    Path("outcomes.json").write_text(json.dumps(outcomes))
