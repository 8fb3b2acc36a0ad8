"""What Dramatiq documents, as examples: each sends, yields, and returns what came of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq import group, pipeline
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import (
    AsyncIO,
    CurrentMessage,
    GroupCallbacks,
    Middleware,
    Retries,
    SkipMessage,
)
from dramatiq.rate_limits import ConcurrentRateLimiter, WindowRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimitsBackend
from dramatiq.results import ResultFailure, ResultMissing, Results, ResultTimeout
from dramatiq.results.backends import RedisBackend

URL = os.environ["EXAMPLES_BROKER"]
told: list[Any] = []

Example = Generator[None, None, Any]


class Skipping(Middleware):
    """Skips what an actor is to skip, and notes the rest."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        if message.args == ("skip me",):
            raise SkipMessage("as asked")

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if message.actor_name == "echo":
            told.append(["processed", list(message.args), result, type(exception).__name__])

    def after_skip_message(self, broker: Any, message: Any) -> None:
        if message.actor_name == "echo":
            told.append(["skipped", list(message.args)])


limits = LimitsBackend(url=URL)
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
broker.add_middleware(CurrentMessage())
broker.add_middleware(GroupCallbacks(limits))
broker.add_middleware(AsyncIO())
broker.add_middleware(Skipping())
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def add(x: int, y: int) -> int:
    return x + y


@dramatiq.actor(store_results=True)
def subtract(x: int, y: int) -> int:
    return x - y


@dramatiq.actor(store_results=True)
async def double(x: int) -> int:
    return x * 2


@dramatiq.actor(store_results=True)
def echo(value: Any) -> Any:
    return value


@dramatiq.actor(store_results=True, max_retries=1, min_backoff=10, max_backoff=20)
def fail(n: int) -> None:
    raise ValueError(f"no {n}")


@dramatiq.actor(store_results=True, throws=(KeyError,))
def throw() -> None:
    raise KeyError("expected")


@dramatiq.actor(store_results=True, min_backoff=10, max_backoff=20)
def count_runs(until: int) -> int:
    retries: int = CurrentMessage.get_current_message().options.get("retries", 0)
    if retries + 1 < until:
        raise OSError("not yet")
    return retries + 1


@dramatiq.actor(
    store_results=True, min_backoff=10, max_backoff=20, retry_when=lambda retries, error: retries < 2
)
def retry_twice() -> None:
    raise OSError(str(CurrentMessage.get_current_message().options.get("retries", 0)))


@dramatiq.actor(store_results=True)
def ask_for_another() -> int:
    retries: int = CurrentMessage.get_current_message().options.get("retries", 0)
    if retries < 2:
        raise dramatiq.Retry("again", delay=10)
    return retries


@dramatiq.actor
def note(message: dict[str, Any], what: Any) -> None:
    told.append([message["actor_name"], message["args"], what])


@dramatiq.actor
def note_word(word: str) -> None:
    told.append(word)


@dramatiq.actor(store_results=True)
def within_limits() -> list[Any]:
    window = WindowRateLimiter(limits, "window", limit=1, window=60)
    with ConcurrentRateLimiter(limits, "mutex", limit=1).acquire(raise_on_failure=False) as held:
        with window.acquire(raise_on_failure=False) as first:
            pass
        with window.acquire(raise_on_failure=False) as second:
            pass
        try:
            with window.acquire():
                return ["let in"]
        except dramatiq.RateLimitExceeded as error:
            return [held, first, second, type(error).__name__]


@dramatiq.actor(store_results=True)
def pair(x: int) -> Any:
    return x, {1: (x, None)}


def outcome(call: Callable[[], Any]) -> Any:
    """Return what *call* returns, or its error."""
    try:
        return call()
    except (ResultFailure, ResultMissing, ResultTimeout) as error:
        return [
            type(error).__name__,
            getattr(error, "orig_exc_type", None),
            getattr(error, "orig_exc_msg", None),
        ]


def result(message: Any) -> Any:
    return outcome(lambda: message.get_result(block=True, timeout=20_000))


def example_send() -> Example:
    message, missing = add.send(1, 2), None
    missing = outcome(message.get_result)
    short = outcome(lambda: message.get_result(block=True, timeout=50))
    yield
    return [missing, short, result(message), add(1, 2), str(message)]


def example_send_with_options() -> Example:
    message = add.send_with_options(args=(1,), kwargs={"y": 5}, delay=100)
    later = add.send_with_options(args=(1, 1), delay=3_600_000)
    yield
    return [result(message), outcome(later.get_result)]


def example_json_arguments() -> Example:
    message = echo.send({"a": (1, 2), "b": [None, True, 1.5], "c": "ü"})
    yield
    return result(message)


def example_async_actor() -> Example:
    message = double.send(4)
    yield
    return result(message)


def example_pipeline() -> Example:
    piped = (add.message(1, 2) | subtract.message(10) | double.message()).run()
    nested = pipeline([add.message(1, 1), pipeline([add.message(3), double.message()])]).run()
    ignoring = (add.message(1, 1) | add.message_with_options(args=(2, 2), pipe_ignore=True)).run()
    yield
    values = [result(piped), result(nested), result(ignoring)]
    return [values, list(piped.get_results()), piped.completed, piped.completed_count, len(piped)]


def example_group() -> Example:
    members = group([add.message(n, n) for n in range(4)]).run()
    mixed = group([add.message(1, 1) | double.message(), group([add.message(2, 2)])]).run()
    before = members.completed
    yield
    values = list(members.get_results(block=True, timeout=20_000))
    return [before, values, members.completed_count, list(mixed.get_results(block=True, timeout=20_000))]


def example_group_callback() -> Example:
    members = group([add.message(1, n) for n in range(3)])
    members.add_completion_callback(note_word.message("the group is done"))
    members.run()
    yield
    members.wait(timeout=20_000)
    return list(members.get_results())


def example_failure() -> Example:
    failing, throwing = fail.send(3), throw.send()
    yield
    return [result(failing), result(throwing)]


def example_retries() -> Example:
    messages = [count_runs.send(3), retry_twice.send(), ask_for_another.send()]
    most = count_runs.send_with_options(args=(5,), max_retries=1)
    yield
    return [result(each) for each in (*messages, most)]


def example_callbacks() -> Example:
    good = add.send_with_options(args=(20, 1), on_success=note, on_failure=note)
    names = {"on_success": "note", "on_failure": "note", "on_retry_exhausted": "note"}
    bad = fail.send_with_options(args=(20,), **names)
    yield
    return [result(good), result(bad)]


def example_max_age() -> Example:
    message = add.send_with_options(args=(1, 1), max_age=1)
    time.sleep(0.05)
    yield
    return outcome(lambda: message.get_result(block=True, timeout=20_000))[0]


def example_rate_limits() -> Example:
    message = within_limits.send()
    yield
    return result(message)


def example_middleware() -> Example:
    skipped, processed = echo.send("skip me"), echo.send("not me")
    yield
    return [result(skipped), result(processed)]


def example_a_tuple_as_result() -> Example:
    message, piped = pair.send(1), (add.message(1, 2) | pair.message()).run()
    yield
    return [result(message), result(piped)]


def example_a_message_as_bytes() -> Example:
    message = dramatiq.Message.decode(add.message(3, 4).encode())
    broker.enqueue(message)
    yield
    return [result(message), list(message.args), Retries(max_retries=5).max_retries]


def main() -> None:
    """Run the examples, and write what came of each as JSON."""
    examples = {name: value() for name, value in globals().items() if name.startswith("example_")}
    for example in examples.values():
        next(example)
    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=4)
    worker.start()
    outcomes = {}
    for name, example in examples.items():
        try:
            next(example)
        except StopIteration as end:
            outcomes[name.removeprefix("example_")] = end.value
    until = time.monotonic() + 20
    while len(told) < 8 and time.monotonic() < until:
        time.sleep(0.05)
    worker.stop()
    outcomes["told"] = sorted(told, key=repr)
    Path("outcomes.json").write_text(json.dumps(outcomes))
