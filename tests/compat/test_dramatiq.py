"""Dramatiq's interface over a PgQueue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from pgqueue import ConfigurationError, DuplicateJobError, InvalidArgumentsError
from pgqueue.compat import ForeignAddressWarning, dramatiq
from pgqueue.compat.dramatiq import group, pipeline
from pgqueue.compat.dramatiq.brokers.rabbitmq import RabbitmqBroker
from pgqueue.compat.dramatiq.brokers.redis import RedisBroker
from pgqueue.compat.dramatiq.middleware import (
    CurrentMessage,
    Middleware,
    Prometheus,
    Retries,
    ShutdownNotifications,
    SkipMessage,
    TimeLimit,
    TimeLimitExceeded,
)
from pgqueue.compat.dramatiq.rate_limits import (
    Barrier,
    BucketRateLimiter,
    ConcurrentRateLimiter,
    WindowRateLimiter,
)
from pgqueue.compat.dramatiq.rate_limits.backends.redis import RedisBackend as Limits
from pgqueue.compat.dramatiq.results import ResultFailure, ResultMissing, Results, ResultTimeout
from pgqueue.compat.dramatiq.results.backends.redis import RedisBackend
from pgqueue.options.levels import NO_OPTIONS

pytestmark = pytest.mark.contract("P8.11")


@pytest.fixture
def broker(dsn: str) -> Iterator[dramatiq.Broker]:
    broker = RedisBroker(url=dsn)
    broker.add_middleware(Results(backend=RedisBackend(), store_results=True))
    dramatiq.set_broker(broker)
    yield broker
    broker.close()


@pytest.fixture
def worker(broker: dramatiq.Broker) -> Iterator[Callable[[], None]]:
    """Starts a worker, which stops with the test."""
    worker = dramatiq.Worker(broker, worker_threads=4)
    yield worker.start
    worker.stop()


def sleep_in_parts() -> None:
    """Sleep for ten seconds: what interrupts a thread comes between two calls."""
    for _ in range(200):
        time.sleep(0.05)


@pytest.fixture
def actors(broker: dramatiq.Broker) -> SimpleNamespace:
    @dramatiq.actor
    def add(x: int, y: int) -> int:
        return x + y

    @dramatiq.actor
    def subtract(x: int, y: int) -> int:
        return x - y

    return SimpleNamespace(add=add, subtract=subtract)


def test_a_message_is_processed_and_has_a_result(actors: Any, worker: Callable[[], None]) -> None:
    message = actors.add.send(1, 2)
    with pytest.raises(ResultMissing):
        message.get_result()
    with pytest.raises(ResultTimeout):
        message.get_result(block=True, timeout=10)
    later = actors.add.send_with_options(kwargs={"x": 1, "y": 2}, delay=timedelta(hours=1))
    worker()

    assert message.get_result(block=True) == actors.add(1, 2) == 3
    with pytest.raises(ResultMissing, match="scheduled"):
        later.get_result()
    with pytest.raises(DuplicateJobError):
        actors.add.broker.enqueue(message)


def test_a_pipeline_hands_each_result_over_as_the_last_argument(
    actors: Any, worker: Callable[[], None]
) -> None:
    whole = (actors.add.message(1, 2) | actors.subtract.message(10) | actors.add.message(5)).run()
    nested = pipeline([actors.add.message(1, 1), pipeline([actors.add.message(3)])]).run()
    ignoring = (
        actors.add.message(1, 1) | actors.add.message_with_options(args=(2, 2), pipe_ignore=True)
    ).run()
    assert not whole.completed
    worker()

    assert whole.get_result(block=True) == 12
    assert list(whole.get_results()) == [3, 7, 12]
    assert whole.completed
    assert whole.completed_count == len(whole) == 3
    assert nested.get_result(block=True) == 5
    assert ignoring.get_result(block=True) == 4


def test_a_group_has_the_results_in_its_order_and_calls_back(actors: Any, worker: Callable[[], None]) -> None:
    told: list[str] = []

    @dramatiq.actor
    def tell(word: str) -> None:
        told.append(word)

    plain = group(
        [actors.add.message(n, n) for n in range(3)] + [actors.add.message(1, 1) | actors.add.message(5)]
    )
    outer = group([group([actors.add.message(1, 1)]), actors.add.message(2, 2)])
    with_callback = group(
        [actors.add.message(1, n) for n in range(2)] + [actors.add.message(1, 1) | actors.add.message(1)]
    )
    with_callback.add_completion_callback(tell.message("done"))
    for each in (plain, outer, with_callback):
        each.run()
    assert not plain.completed
    worker()

    assert list(plain.get_results(block=True)) == [0, 2, 4, 7]
    assert plain.completed_count == len(plain) == 4
    assert list(outer.get_results(block=True)) == [[2], 4]
    with_callback.wait()
    assert list(with_callback.get_results()) == [1, 2, 3]
    actors.add.broker.join("default", timeout=60_000)
    assert told == ["done"]


def test_failures_are_retried_and_told_as_dramatiq_does(
    broker: dramatiq.Broker, worker: Callable[[], None]
) -> None:
    told: list[Any] = []

    @dramatiq.actor
    def tell(message: dict[str, Any], what: Any) -> None:
        told.append((message["actor_name"], message["args"], what))

    @dramatiq.actor(max_retries=1, min_backoff=1, max_backoff=2, on_failure="tell", on_retry_exhausted="tell")
    def fail(n: int) -> None:
        raise ValueError(f"no {n}")

    @dramatiq.actor(throws=KeyError)
    def throw() -> None:
        raise KeyError("expected")

    @dramatiq.actor(retry_when=lambda retries, error: retries < 2, min_backoff=1)
    def count() -> None:
        raise OSError(CurrentMessage.get_current_message().options["retries"])

    @dramatiq.actor(on_success=tell)
    def again() -> int:
        message = CurrentMessage.get_current_message()
        if message.options["retries"] < 2:
            raise dramatiq.Retry("later", delay=1)
        retries: int = message.options["retries"]
        return retries

    @dramatiq.actor(time_limit=200, max_retries=0)
    def sleep() -> str:
        try:
            sleep_in_parts()
        except TimeLimitExceeded:
            return "stopped"
        return "slept"

    failing, throwing, counting, going = fail.send(3), throw.send(), count.send(), again.send()
    sleeping = sleep.send()
    worker()

    for message, error in (
        (failing, "ValueError: no 3"),
        (throwing, "KeyError: 'expected'"),
        (counting, "OSError: 2"),
    ):
        with pytest.raises(ResultFailure, match=f"actor raised {error}"):
            message.get_result(block=True)
    assert going.get_result(block=True) == 2
    assert sleeping.get_result(block=True) == "stopped"
    broker.join("default", timeout=60_000)
    failure = ("fail", [3], {"type": "ValueError", "message": "no 3"})
    exhausted = ("fail", [3], {"retries": 1, "max_retries": 1})
    assert sorted(told, key=repr) == sorted([("again", [], 2), failure, failure, exhausted], key=repr)


def test_an_exceeded_time_limit_is_a_failure_that_is_told(
    broker: dramatiq.Broker, worker: Callable[[], None]
) -> None:
    told: list[Any] = []

    @dramatiq.actor
    def tell(message: dict[str, Any], what: Any) -> None:
        told.append((message["actor_name"], what["type"]))

    @dramatiq.actor(time_limit=200, max_retries=0, on_failure="tell")
    def sleep() -> None:
        sleep_in_parts()

    sleeping = sleep.send()
    worker()

    with pytest.raises(ResultFailure, match="SoftTimeLimitExceeded"):
        sleeping.get_result(block=True)
    broker.join("default", timeout=60_000)
    assert told == [("sleep", "SoftTimeLimitExceeded")]


def test_options_of_actors_become_those_of_their_tasks(broker: dramatiq.Broker) -> None:
    @dramatiq.actor
    def plain() -> None: ...

    @dramatiq.actor(
        actor_name="named", queue_name="mail", priority=5, max_retries=None, min_backoff=500,
        max_backoff=60_000, time_limit=float("inf"), max_age=1000,
    )  # fmt: skip
    def other() -> None: ...

    job = broker.client.get(plain.send().message_id)
    named = broker.client.get(
        other.send_with_options(max_retries=2, time_limit=1500, min_backoff=50).message_id
    )
    registry = broker.pgqueue.registry
    options = {each.name: registry.resolve(each.name, each, NO_OPTIONS) for each in registry.definitions}

    assert (job.queue, job.priority, job.expires_at, job.options) == ("default", 0, None, {})
    assert options["plain"]["max_retries"] == 20
    assert (options["plain"]["retry_backoff"], options["plain"]["retry_backoff_max"]) == (30, 7 * 86400)
    assert (options["plain"]["soft_timeout"], options["plain"]["timeout"]) == (600, 660)
    assert (named.task, named.queue, named.priority) == ("named", "mail", -5)
    assert named.expires_at is not None
    assert options["named"]["max_retries"] is options["named"]["timeout"] is None
    assert (named.options["max_retries"], named.options["soft_timeout"]) == (2, 1.5)
    assert named.options["retry_backoff"] == 0.1


def test_middleware_sees_messages_and_may_skip_or_fail_them(dsn: str) -> None:
    seen: list[str] = []

    def skip(message: Any) -> None:
        raise SkipMessage(f"not {message}")

    def stumble(message: Any) -> None:
        raise RuntimeError(f"{message} is processed all the same")

    does: dict[str, Callable[[Any], None]] = {
        "word": lambda message: None, "skip": skip, "fail": lambda message: message.fail(), "stumble": stumble
    }  # fmt: skip

    class Booting(Middleware):
        def before_worker_boot(self, broker: Any, worker: Any) -> None:
            seen.append("boot")

        def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
            seen.append("shutdown")

    class Seeing(Booting):
        def before_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
            seen.append(f"enqueue {message}")

        def before_process_message(self, broker: Any, message: Any) -> None:
            does[message.args[0]](message)

        def after_process_message(
            self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
        ) -> None:
            seen.append(f"processed {message}: {result}")

        def after_skip_message(self, broker: Any, message: Any) -> None:
            seen.append(f"skipped {message}")

    broker = RabbitmqBroker(
        url=dsn, middleware=[Seeing(), Retries(max_retries=0), Results(store_results=True)]
    )

    @dramatiq.actor(broker=broker)
    async def echo(word: str) -> str:
        return word

    messages = [echo.send(word) for word in ("word", "skip", "fail", "stumble")]
    worker = dramatiq.Worker(broker)
    worker.start()
    try:
        backend = broker.get_results_backend()
        assert messages[0].get_result(backend=backend, block=True) == "word"
        assert messages[1].get_result(backend=backend, block=True) is None
        with pytest.raises(ResultFailure):
            messages[2].get_result(backend=backend, block=True)
        assert messages[3].get_result(backend=backend, block=True) == "stumble"
    finally:
        worker.stop()
        broker.close()

    assert seen[:5] == [*(f"enqueue echo('{word}')" for word in ("word", "skip", "fail", "stumble")), "boot"]
    assert seen[-1] == "shutdown"
    assert sorted(seen[5:-1]) == [
        "processed echo('stumble'): stumble",
        "processed echo('word'): word",
        "skipped echo('skip')",
    ]


def test_rate_limiters_hold_over_all_workers_and_inside_an_actor_alone(
    broker: dramatiq.Broker, worker: Callable[[], None]
) -> None:
    @dramatiq.actor(max_retries=0)
    def limited() -> Any:
        window = WindowRateLimiter(Limits(), "window", limit=1, window=60)
        bucket = BucketRateLimiter(Limits(), "bucket", limit=2, bucket=60_000)
        with ConcurrentRateLimiter(Limits(), "mutex", limit=1).acquire() as first, window.acquire() as second:
            pass
        with window.acquire(raise_on_failure=False) as third, bucket.acquire() as fourth:
            pass
        seen = [first, second, third, fourth]
        assert seen == [True, True, False, True]
        with window.acquire():
            return seen

    @dramatiq.actor
    async def held() -> bool:
        async with ConcurrentRateLimiter(Limits(), "async").acquire() as has_room:
            return has_room

    refused, allowed = limited.send(), held.send()
    worker()

    with pytest.raises(ResultFailure, match="RateLimitExceeded: rate limit exceeded for key 'window'"):
        refused.get_result(block=True)
    assert allowed.get_result(block=True) is True


def test_results_are_kept_only_where_an_actor_says_so(dsn: str) -> None:
    broker = RedisBroker(url=dsn)

    class Things:
        pass

    @dramatiq.actor(broker=broker, max_retries=0)
    def make() -> Things:
        # No JSON: Dramatiq does not look at it either.
        return Things()

    message = make.send()
    worker = dramatiq.Worker(broker)
    worker.start()
    try:
        broker.join("default", timeout=60_000)
        assert broker.client.get(message.message_id).status == "succeeded"
        with pytest.raises(ResultMissing, match="store_results"):
            message.get_result(backend=broker.get_results_backend())
    finally:
        worker.stop()
        broker.close()


def test_classes_are_actors_and_queues_are_flushed(
    broker: dramatiq.Broker, worker: Callable[[], None]
) -> None:
    class Base(dramatiq.GenericActor):
        class Meta:
            abstract = True
            queue_name = "classes"

    class Greet(Base):
        def perform(self, name: str) -> str:
            return f"Hello {name}"

    flushed = Greet.send("Ann")  # type: ignore[attr-defined]
    broker.flush_all()
    greeted = Greet.send("Bob")  # type: ignore[attr-defined]
    worker()

    assert greeted.get_result(block=True) == "Hello Bob"
    assert greeted.queue_name == "classes"
    with pytest.raises(ResultFailure, match="flushed"):
        flushed.get_result()


def test_what_is_not_there_says_what_to_do_instead(actors: Any, broker: dramatiq.Broker) -> None:
    class Acking(Middleware):
        def after_ack(self, broker: Any, message: Any) -> None: ...

    nested = group([group([actors.add.message(1, 1)])])
    nested.add_completion_callback(actors.add.message(1, 2))
    delayed = actors.add.message(1, 2) | actors.add.message_with_options(args=(1,), delay=5000)
    calls: list[Callable[[], object]] = [
        lambda: broker.add_middleware(Acking()),
        Prometheus,
        dramatiq.PickleEncoder,
        lambda: ShutdownNotifications(notify_shutdown=True),
        lambda: Barrier(Limits(), "barrier"),
        lambda: RabbitmqBroker(max_priority=10),
        lambda: dramatiq.actor(result_ttl=30 * 86_400_000, actor_name="kept")(print),
        lambda: actors.add.send_with_options(args=(1, 2), throws=(ValueError,)),
        lambda: actors.add.send_with_options(args=(1, 2), pipe_target={}),
        nested.run,
        delayed.run,
    ]

    for call in calls:
        with pytest.raises(NotImplementedError, match=r"is not available over pgqueue: .+"):
            call()


def test_bad_input_is_an_error_at_the_call_and_changes_nothing(actors: Any, broker: dramatiq.Broker) -> None:
    bad: list[tuple[type[Exception], Callable[[], object]]] = [
        (InvalidArgumentsError, lambda: actors.add.send(1)),
        (TypeError, lambda: actors.add.send(1, object())),
        (TypeError, lambda: actors.add.send_with_options(args=(1, 2), on_success=print)),
        (TypeError, lambda: actors.add.send_with_options(args=(1, 2), time_limit="5")),
        (ValueError, lambda: actors.add.send_with_options(args=(1, 2), delay=-1)),
        (ValueError, lambda: dramatiq.actor(max_retry=3)(print)),
        (ValueError, lambda: dramatiq.actor(queue_name="a queue")(print)),
        (ValueError, lambda: dramatiq.actor(actor_name="add")(lambda: None)),
        (TypeError, lambda: dramatiq.set_broker(object())),  # type: ignore[arg-type]
        (TypeError, lambda: broker.add_middleware(object())),  # type: ignore[arg-type]
        (ValueError, lambda: broker.add_middleware(TimeLimit(), after=Prometheus)),
        (dramatiq.ActorNotFound, lambda: broker.get_actor("nobody")),
    ]

    for kind, call in bad:
        with pytest.raises(kind):
            call()
    assert not broker.client.jobs(limit=1).jobs


def test_an_address_of_another_server_is_passed_over_where_the_environment_names_a_database(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for make in (RedisBroker, RabbitmqBroker):
        with pytest.raises(ConfigurationError, match="PGQUEUE_DSN"):
            make()
    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    with pytest.warns(ForeignAddressWarning) as warned:
        broker = RedisBroker(host="redis.example", password="secret")
    try:
        broker.client.check()
    finally:
        broker.close()
    assert len(warned) == 1


def test_a_queue_keeps_what_was_declared_of_it(broker: dramatiq.Broker) -> None:
    broker.pgqueue.queue("mail", ageing=60)
    dramatiq.actor(queue_name="mail")(sleep_in_parts)
    broker.declare_queue("mail")
    assert broker.pgqueue.registry.ageing == {"mail": 60}
