"""Examples of what Celery documents, each with what comes of it. Run under Celery, and under pgqueue.

Only the imports of `celery` differ. The worker imports this module as the driver does, which prints what the
examples return.
"""

# mypy: ignore-errors
from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from celery import Celery, chain, chord, group, shared_task, signature, states
from celery.canvas import maybe_signature
from celery.exceptions import (
    ChordError,
    Ignore,
    MaxRetriesExceededError,
    Reject,
    SoftTimeLimitExceeded,
    TaskRevokedError,
)
from celery.result import AsyncResult, GroupResult, ResultSet, allow_join_result
from celery.signals import task_failure, task_postrun, task_prerun, task_retry, task_success
from celery.utils.log import get_task_logger

logger = get_task_logger(__name__)
WITHIN = 60
"""Seconds. Nothing takes so long, unless the machine is busy."""
NOTES = Path(os.environ["EXAMPLES_NOTES"])
"""A folder: what tasks note, each under its key."""

app = Celery("examples", broker=os.environ.get("EXAMPLES_BROKER"), backend=os.environ.get("EXAMPLES_BROKER"))
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    task_routes={"examples.routed_*": {"queue": "routed"}, "examples.far": "far"},
    task_queues=None,
    result_extended=True,
)


def note(key, value):
    with (NOTES / key).open("a") as file:
        print(json.dumps(value), file=file)


def noted(key, count=None, within=WITHIN):
    """Return what was noted under *key*, once it is *count* things."""
    end = time.monotonic() + within
    while True:
        found = (
            [json.loads(line) for line in (NOTES / key).read_text().splitlines()]
            if (NOTES / key).exists()
            else []
        )
        if count is None or len(found) >= count or time.monotonic() > end:
            return found
        time.sleep(0.02)


def until(is_true, within=WITHIN):
    end = time.monotonic() + within
    while not is_true() and time.monotonic() < end:
        time.sleep(0.02)
    return is_true()


def raised(call):
    """Return what *call* raises: its class's name and its text."""
    try:
        return call()
    except BaseException as error:
        return [type(error).__name__, str(error)]


# Tasks


@app.task
def add(x, y):
    return x + y


@app.task
def mul(x, y):
    return x * y


@app.task
def xsum(numbers):
    return sum(numbers)


@shared_task
def echo(*args, **kwargs):
    return [list(args), kwargs]


@app.task(name="a-name-of-its-own")
def named():
    return "named"


@app.task
def kinds(value):
    return [type(value).__name__, value]


@app.task
def fail(kind="ValueError", text="it failed"):
    raise {"ValueError": ValueError, "KeyError": KeyError, "OSError": OSError}[kind](text)


class ShopError(Exception):
    pass


class CodedError(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code


@app.task
def fail_with(kind):
    if kind == "coded":
        raise CodedError(3, "bad")
    if kind == "file":
        open("/no/such/file")
    raise ValueError("a", 1, None)


@app.task
def fail_of_its_own():
    raise ShopError("no stock")


@app.task(bind=True)
def tell_request(self, a, b=2):
    request = self.request
    if request.called_directly:
        return {"directly": True}
    return {
        "name": self.name,
        "task": request.task,
        "id": request.id == str(request.id) and len(request.id),
        "retries": request.retries,
        "eager": request.is_eager,
        "directly": request.called_directly,
        "max_retries": self.max_retries,
        "delay": self.default_retry_delay,
        "queue": request.delivery_info["routing_key"],
    }


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def retry_until_it_gives_up(self, key):
    note(key, self.request.retries)
    try:
        raise ValueError("try again")
    except ValueError as error:
        raise self.retry(exc=error)


@app.task(bind=True, max_retries=1)
def retry_without_an_error(self, key):
    note(key, self.request.retries)
    raise self.retry(countdown=0)


@app.task(bind=True)
def succeed_at_the_third(self, key):
    note(key, self.request.retries)
    if self.request.retries < 2:
        raise self.retry(countdown=0, exc=OSError("not yet"))
    return self.request.retries


@app.task(bind=True, max_retries=0)
def more_retries_for_this_call(self, key):
    note(key, self.request.retries)
    raise self.retry(countdown=0, max_retries=2, exc=ValueError("spent"))


@app.task(bind=True)
def retry_with_other_arguments(self, key, left):
    note(key, left)
    if left:
        raise self.retry(args=[key, left - 1], countdown=0)
    return "done"


@app.task(autoretry_for=(OSError,), max_retries=2, retry_backoff=False, default_retry_delay=0)
def autoretried(key, kind):
    note(key, kind)
    raise {"OSError": OSError, "ValueError": ValueError, "FileNotFoundError": FileNotFoundError}[kind](
        "broken"
    )


@app.task(
    autoretry_for=(Exception,),
    dont_autoretry_for=(KeyError,),
    retry_kwargs={"max_retries": 1, "countdown": 0},
)
def autoretried_but_for_some(key, kind):
    note(key, kind)
    raise {"OSError": OSError, "KeyError": KeyError}[kind]("broken")


@app.task(bind=True)
def ignoring(self, key):
    note(key, "ran")
    raise Ignore()


@app.task(throws=(KeyError,))
def expected_to_fail():
    raise KeyError("as expected")


@app.task(soft_time_limit=1, time_limit=20)
def softly_limited(key, catches):
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        note(key, "cleaned up")
        if not catches:
            raise
        return "cut short"


@app.task(time_limit=1)
def hard_limited():
    time.sleep(30)


@app.task(acks_late=True, time_limit=60)
def dies(key):
    note(key, "ran")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True, reject_on_worker_lost=True, time_limit=60)
def dies_once(key):
    note(key, "ran")
    if len(noted(key)) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task(ignore_result=True)
def without_a_result(key):
    note(key, "ran")
    return 7


@app.task(ignore_result=True)
def unkept(x):
    return x


@app.task
def routed_by_name():
    return "there"


@app.task
def far():
    return "far"


@app.task(bind=True, queue="own")
def on_its_own_queue(self):
    return self.request.delivery_info["routing_key"]


@app.task(bind=True)
def tell_queue(self):
    return self.request.delivery_info["routing_key"]


@app.task(bind=True)
def tell_state(self, key):
    self.update_state(state="PROGRESS", meta={"current": 1, "total": 2})
    note(key, "told")
    until(lambda: noted(f"{key}-go"))
    return "all"


@app.task
def on_result(key, result):
    note(key, result)


@app.task
def keep(result, key):
    note(key, result)
    return result


@app.task
def on_fail(key_of_task):
    note("errors", "called")


@app.task
def on_fail_in_full(request, error, trace, key):
    note(key, [str(error).rpartition(": ")[2], bool(request.id)])


@app.task(bind=True)
def nested_get(self):
    return raised(lambda: add.delay(1, 1).get(timeout=5))[0]


@app.task
def send_another(key):
    return keep.delay("inner", key).id != ""


class Hooked(app.Task):
    def before_start(self, task_id, args, kwargs):
        note(kwargs["key"], "before_start")

    def on_success(self, retval, task_id, args, kwargs):
        note(kwargs["key"], ["on_success", retval])

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note(kwargs["key"], ["on_failure", str(exc)])

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        note(kwargs["key"], ["on_retry", str(exc)])

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        note(kwargs["key"], ["after_return", status])


@app.task(bind=True, base=Hooked, max_retries=1)
def hooked(self, *, key, fails=False):
    if fails:
        raise self.retry(exc=OSError("again"), countdown=0)
    return "fine"


class Around(app.Task):
    def __call__(self, *args, **kwargs):
        note("around", self.request.retries)
        return ["around", super().__call__(*args, **kwargs), self.request.called_directly]


@app.task(base=Around, bind=True)
def surrounded(self, x):
    return [x, self.request.called_directly, self.request.retries]


class Counting(app.Task):
    name = "examples.counting"

    def run(self, upto):
        return list(range(upto))


counting = app.register_task(Counting())


@app.task
def signalled(key, fails=False):
    if fails:
        raise ValueError("signalled")
    return "result"


@task_prerun.connect
def on_prerun(task_id=None, task=None, args=None, kwargs=None, **_):
    if task.name == "examples.signalled":
        note(kwargs["key"], "prerun")


@task_postrun.connect(sender=signalled)
def on_postrun(task_id=None, task=None, kwargs=None, retval=None, state=None, **_):
    note(kwargs["key"], ["postrun", state])


@task_success.connect(sender=signalled)
def on_success_signal(sender=None, result=None, **_):
    note("success", [sender.name, result])


@task_failure.connect(sender=signalled)
def on_failure_signal(sender=None, task_id=None, exception=None, kwargs=None, **_):
    note(kwargs["key"], ["failure", str(exception)])


# Examples


def example_a_result():
    result = add.delay(4, 4)
    return [
        result.get(timeout=WITHIN),
        result.state,
        result.status,
        result.ready(),
        result.successful(),
        result.failed(),
    ]


def example_apply_async_with_arguments():
    return [
        add.apply_async((2, 2)).get(timeout=WITHIN),
        add.apply_async(kwargs={"x": 1, "y": 5}).get(timeout=WITHIN),
        add.apply_async([1], {"y": 2}, countdown=0.1).get(timeout=WITHIN),
        add.apply_async((1, 2), eta=datetime.now(UTC) + timedelta(seconds=0.1)).get(timeout=WITHIN),
    ]


def example_direct_calls():
    return [add(2, 3), add.s(2, 3)(), add.s(2)(5), tell_request(1)["directly"], named.name, add.name]


def example_names():
    return [
        sorted(name for name in app.tasks if name.startswith("examples.a")),
        named.delay().get(timeout=WITHIN),
    ]


def example_wrong_arguments():
    return [
        raised(lambda: add.delay(1))[0],
        raised(lambda: add.delay(1, 2, 3))[0],
        raised(lambda: add.delay(z=1))[0],
    ]


def example_values_keep_their_kinds():
    values = [
        (1, 2),
        {"a": (1,)},
        {1: "one"},
        None,
        1.5,
        "é",
        [True],
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        date(2026, 1, 2),
        Decimal("1.50"),
        UUID(int=7),
        b"ab",
    ]
    return [[repr(each) for each in kinds.delay(value).get(timeout=WITHIN)] for value in values]


def example_named_arguments_and_shared_tasks():
    return [echo.delay(1, 2, a=3).get(timeout=WITHIN), echo.delay().get(timeout=WITHIN)]


def example_an_error():
    result = fail.delay()
    return [
        raised(lambda: result.get(timeout=WITHIN)),
        result.state,
        result.failed(),
        result.ready(),
        repr(result.result),
        "ValueError: it failed" in result.traceback,
        str(result.get(propagate=False)),
    ]


def example_errors_of_several_kinds():
    return [
        raised(lambda: fail.delay("KeyError", "x").get(timeout=WITHIN)),
        raised(lambda: fail.delay("OSError", "x").get(timeout=WITHIN)),
        raised(lambda: fail_of_its_own.delay().get(timeout=WITHIN)),
        isinstance(fail_of_its_own.delay().get(timeout=WITHIN, propagate=False), ShopError),
        raised(lambda: expected_to_fail.delay().get(timeout=WITHIN)),
    ]


def example_errors_with_several_arguments():
    coded, file, value = [
        fail_with.delay(kind).get(timeout=WITHIN, propagate=False) for kind in ("coded", "file", "value")
    ]
    return [[type(each).__name__ for each in (coded, file, value)], coded.code, file.errno, list(value.args)]


def example_the_request():
    return tell_request.delay(1).get(timeout=WITHIN)


def example_retries_are_counted():
    result = retry_until_it_gives_up.delay("retries")
    return [raised(lambda: result.get(timeout=WITHIN)), result.state, noted("retries", 3)]


def example_retries_without_an_error():
    result = retry_without_an_error.delay("retries2")
    return [raised(lambda: result.get(timeout=WITHIN))[0], noted("retries2", 2)]


def example_a_retry_that_succeeds():
    return [succeed_at_the_third.delay("third").get(timeout=WITHIN), noted("third", 3)]


def example_more_retries_for_one_call():
    return [raised(lambda: more_retries_for_this_call.delay("more").get(timeout=WITHIN)), noted("more", 3)]


def example_a_retry_with_other_arguments():
    return [retry_with_other_arguments.delay("other", 2).get(timeout=WITHIN), noted("other", 3)]


def example_autoretry():
    outcome = []
    for kind in ("OSError", "FileNotFoundError", "ValueError"):
        result = autoretried.delay(f"auto-{kind}", kind)
        outcome.append([raised(lambda: result.get(timeout=WITHIN)), noted(f"auto-{kind}")])
    return outcome


def example_autoretry_but_for_some():
    outcome = []
    for kind in ("OSError", "KeyError"):
        result = autoretried_but_for_some.delay(f"but-{kind}", kind)
        outcome.append([raised(lambda: result.get(timeout=WITHIN)), noted(f"but-{kind}")])
    return outcome


def example_a_soft_limit():
    caught, raises = softly_limited.delay("soft-1", True), softly_limited.delay("soft-2", False)
    return [
        caught.get(timeout=WITHIN),
        noted("soft-1", 1),
        raised(lambda: raises.get(timeout=WITHIN))[0],
        noted("soft-2", 1),
        raises.state,
    ]


def example_a_hard_limit():
    result = hard_limited.delay()
    return [raised(lambda: result.get(timeout=WITHIN))[0], result.state]


def example_a_process_that_dies():
    result, again = dies.delay("dies"), dies_once.delay("dies-once")
    return [
        raised(lambda: result.get(timeout=WITHIN))[0],
        result.state,
        noted("dies", 1),
        again.get(timeout=WITHIN),
        noted("dies-once", 2),
    ]


def example_no_result():
    result = without_a_result.delay("without")
    return [result.get(timeout=5), noted("without", 1)]


def example_queues():
    return [
        on_its_own_queue.delay().get(timeout=WITHIN),
        routed_by_name.delay().get(timeout=WITHIN),
        far.delay().get(timeout=WITHIN),
        tell_queue.delay().get(timeout=WITHIN),
        tell_queue.apply_async(queue="own").get(timeout=WITHIN),
        tell_queue.apply_async(queue="routed", priority=3).get(timeout=WITHIN),
    ]


def example_a_state_of_its_own():
    result = tell_state.delay("state")
    noted("state", 1)
    until(lambda: result.state == "PROGRESS")
    told = [result.state, result.info]
    note("state-go", "go")
    return [*told, result.get(timeout=WITHIN), result.state]


def example_expiry():
    # Celery notices when a worker takes it, which is at once.
    late = add.apply_async((1, 1), expires=datetime(2020, 1, 1, tzinfo=UTC))
    return [raised(lambda: late.get(timeout=WITHIN))[0], late.state, late.ready()]


def example_revoking():
    # Celery's workers are told of it, which takes a while on a busy machine.
    revoked = add.apply_async((1, 1), countdown=4)
    revoked.revoke()
    return [raised(lambda: revoked.get(timeout=WITHIN))[0], revoked.state, revoked.successful()]


def example_ignoring():
    result = ignoring.delay("ignoring")
    return [noted("ignoring", 1), result.successful(), result.failed()]


def example_unknown_results():
    result = AsyncResult("1b7a4b0e-0000-4000-8000-000000000000", app=app)
    return [result.state, result.ready(), result.result, app.AsyncResult(result.id) == result]


def example_send_task_by_name():
    return app.send_task("examples.add", args=[2, 2]).get(timeout=WITHIN)


def example_links():
    add.apply_async((2, 2), link=keep.s("linked")).get(timeout=WITHIN)
    add.apply_async((2, 2), link=[keep.s("linked2"), keep.si("own", "linked2")]).get(timeout=WITHIN)
    fail.apply_async(link_error=on_fail.s()).get(timeout=WITHIN, propagate=False)
    fail.apply_async(link_error=on_fail_in_full.s("in-full")).get(timeout=WITHIN, propagate=False)
    return [
        noted("linked", 1),
        sorted(map(str, noted("linked2", 2))),
        noted("errors", 1),
        noted("in-full", 1),
    ]


def example_signatures():
    partial = add.s(2)
    clone = add.s(2).clone(args=(1,))
    return [
        partial.delay(3).get(timeout=WITHIN),
        add.signature((2, 2), countdown=0).delay().get(timeout=WITHIN),
        add.si(2, 2).delay().get(timeout=WITHIN),
        signature("examples.add", args=(1, 2)).delay().get(timeout=WITHIN),
        partial.args,
        clone.args,
        partial.task,
        (~add.s(3, 3)),
        add.s(1, 2).set(countdown=0).apply_async().get(timeout=WITHIN),
        repr(add.s(2, 2)),
        partial.clone((1,)).args,
        add.si(1, 1).immutable,
    ]


def example_chains():
    return [
        chain(add.s(4, 4), mul.s(8), mul.s(10))().get(timeout=WITHIN),
        (add.s(1, 1) | add.s(2) | add.si(7, 7)).apply_async().get(timeout=WITHIN),
        chain(add.s(4), mul.s(8))(4).get(timeout=WITHIN),
        chain([add.s(1, 1), add.s(1)]).delay().get(timeout=WITHIN),
    ]


def example_the_parents_of_a_chain():
    result = chain(add.s(2, 2), add.s(4), add.s(8))()
    return [
        result.get(timeout=WITHIN),
        result.parent.get(timeout=WITHIN),
        result.parent.parent.get(timeout=WITHIN),
        result.parent.parent.parent,
    ]


def example_a_chain_that_fails():
    result = chain(add.s(1, 1), fail.si(), add.s(1))()
    return raised(lambda: result.get(timeout=WITHIN))


def example_groups():
    result = group(add.s(i, i) for i in range(5))()
    mixed = group(add.s(1, 1), mul.s(3, 3), chain(add.s(1, 1), mul.s(5)))()
    partial = group(add.s(10), mul.s(10)).apply_async((4,))
    return [
        result.get(timeout=WITHIN),
        result.ready(),
        result.successful(),
        result.completed_count(),
        len(result),
        isinstance(result, GroupResult),
        [each.get(timeout=WITHIN) for each in result],
        mixed.get(timeout=WITHIN),
        partial.get(timeout=WITHIN),
        group([add.s(1, 2)]).delay().get(timeout=WITHIN),
    ]


def example_a_group_with_a_failure():
    result = group(add.s(1, 1), fail.s(), add.s(2, 2))()
    until(lambda: result.ready())
    return [
        raised(lambda: result.get(timeout=WITHIN)),
        result.failed(),
        result.successful(),
        [each.state for each in result],
        [str(each) for each in result.get(propagate=False, timeout=WITHIN)],
    ]


def example_chords():
    return [
        chord((add.s(i, i) for i in range(10)), xsum.s())().get(timeout=WITHIN),
        chord([add.s(1, 1), add.s(2, 2)])(xsum.s()).get(timeout=WITHIN),
        (group(add.s(1, 1), add.s(2, 2)) | xsum.s()).delay().get(timeout=WITHIN),
        chain(add.s(1, 1), group(add.s(1), add.s(2)), xsum.s())().get(timeout=WITHIN),
        chord([add.s(3, 3)], xsum.s()).apply_async().get(timeout=WITHIN),
        chain(chord([add.s(1, 1), add.s(2, 2)], xsum.s()), mul.s(10))().get(timeout=WITHIN),
    ]


def example_a_group_behind_a_task():
    result = chain(add.s(1, 1), group(add.s(1), mul.s(10)))()
    return [result.get(timeout=WITHIN), type(result).__name__]


def example_a_chord_that_fails():
    result = chord([add.s(1, 1), fail.s()], xsum.s())()
    until(lambda: result.state == "FAILURE")
    return [result.state, type(result.result).__name__, "ValueError('it failed')" in str(result.result)]


def example_map_starmap_and_chunks():
    return [
        xsum.map([[1, 2], [3]]).delay().get(timeout=WITHIN),
        add.starmap([(1, 2), (3, 4)]).delay().get(timeout=WITHIN),
        add.chunks(zip(range(5), range(5)), 2).group()().get(timeout=WITHIN),
    ]


def example_apply_runs_here():
    result = add.apply((2, 2))
    failed = fail.apply()
    retried = succeed_at_the_third.apply(("here",))
    return [
        result.get(),
        result.state,
        result.ready(),
        failed.state,
        raised(failed.get),
        retried.get(),
        noted("here"),
        raised(lambda: fail.apply(throw=True)),
        chain(add.s(1, 1), add.s(3)).apply().get(),
    ]


def example_always_eager():
    app.conf.task_always_eager = True
    try:
        return [
            add.delay(2, 2).get(),
            tell_request.delay(1).get()["eager"],
            fail.delay().state,
            chain(add.s(1, 1), add.s(2)).delay().get(),
            group(add.s(1, 1), add.s(2, 2))().get(),
        ]
    finally:
        app.conf.task_always_eager = False


def example_results_are_not_awaited_in_tasks():
    return [
        nested_get.delay().get(timeout=WITHIN),
        send_another.delay("nested").get(timeout=WITHIN),
        noted("nested", 1),
    ]


@app.task(bind=True)
def tell_arguments(self, a, b=2, *rest, c=3, **more):
    return [list(self.request.args), self.request.kwargs]


def example_the_arguments_of_a_request():
    return [
        tell_arguments.delay(1).get(timeout=WITHIN),
        tell_arguments.delay(1, 5, 6, c=7, d=8).get(timeout=WITHIN),
        tell_arguments.delay(a=1, b=5).get(timeout=WITHIN),
        tell_arguments.delay(1, b=5).get(timeout=WITHIN),
        chain(add.s(1, 1), tell_arguments.s(b=3))().get(timeout=WITHIN),
    ]


@app.task(bind=True, max_retries=None)
def never_spent(self, key):
    note(key, self.request.retries)
    if self.request.retries < 5:
        raise self.retry(countdown=0)
    return "at last"


def example_no_limit_on_retries():
    return [never_spent.delay("never-spent").get(timeout=WITHIN), noted("never-spent", 6)]


@app.task(bind=True)
def retry_without_throwing(self, key):
    note(key, self.request.retries)
    if self.request.retries == 0:
        raise self.retry(countdown=0, throw=False)
    return "second"


def example_a_retry_that_is_returned():
    return [retry_without_throwing.delay("returned").get(timeout=WITHIN), noted("returned", 2)]


def example_groups_in_chords_and_chains():
    return [
        chord([chain(add.s(1, 1), mul.s(3)), add.s(2, 2)], xsum.s())().get(timeout=WITHIN),
        chord(group(add.s(i, 1) for i in range(3)), chain(xsum.s(), mul.s(2)))().get(timeout=WITHIN),
        chain(group(add.s(1, 1), add.s(2, 2)), xsum.s(), add.s(1))().get(timeout=WITHIN),
    ]


def example_groups_in_groups():
    return [
        group(group(add.s(1, 2), add.s(1, 1)), add.s(5, 5))().get(timeout=WITHIN),
        chord([group(add.s(1, 2), add.s(1, 1)), add.s(5, 5)], xsum.s())().get(timeout=WITHIN),
        (group(add.s(1, 2), add.s(1, 1)) | group(echo.s(), xsum.s()))().get(timeout=WITHIN),
        chain(add.s(1, 1), add.s(1).set(countdown=0.2)).apply_async(countdown=0.2).get(timeout=WITHIN),
    ]


def example_callbacks_of_canvases():
    chain(add.s(1, 1), add.s(2)).apply_async(link=keep.s("link-of-chain")).get(timeout=WITHIN)
    chord([add.s(1, 1)], xsum.s()).apply_async(link=keep.s("link-of-chord")).get(timeout=WITHIN)
    chain(fail.si(), add.s(2)).apply_async(link_error=on_fail_in_full.s("errback-of-chain"))
    return [noted("link-of-chain", 1), noted("link-of-chord", 1), noted("errback-of-chain", 1)]


def example_hooks():
    hooked.delay(key="hooks").get(timeout=WITHIN)
    hooked.delay(key="hooks-2", fails=True).get(timeout=WITHIN, propagate=False)
    return [noted("hooks", 3), sorted(map(str, noted("hooks-2", 5))), counting.delay(3).get(timeout=WITHIN)]


def example_a_base_around_each_call():
    return [surrounded.delay(3).get(timeout=WITHIN), noted("around", 1), app.conf.task_track_started]


def example_ignored_results_in_canvases():
    return [
        chain(unkept.s(1), add.s(2))().get(timeout=WITHIN),
        chord([unkept.s(1), unkept.s(2)], xsum.s())().get(timeout=WITHIN),
        unkept.apply_async((4,), link=keep.s("of-unkept")).get(timeout=WITHIN),
        noted("of-unkept", 1),
    ]


def example_sets_of_results():
    results = ResultSet([add.delay(1, 1)])
    results.add(add.delay(2, 2))
    return [results.get(timeout=WITHIN), len(results), results.ready(), results.successful()]


def example_signals():
    signalled.delay(key="signals").get(timeout=WITHIN)
    signalled.delay(key="signals-2", fails=True).get(timeout=WITHIN, propagate=False)
    return [noted("signals", 2), noted("success", 1), noted("signals-2", 3)]


def example_settings():
    return [
        app.conf.task_serializer,
        app.conf["worker_prefetch_multiplier"],
        app.conf.get("task_acks_late"),
        app.main,
        states.SUCCESS,
        sorted(states.READY_STATES),
        issubclass(ChordError, Exception),
        Reject("x").args != (),
        issubclass(MaxRetriesExceededError, Exception),
        issubclass(TaskRevokedError, Exception),
        allow_join_result is not None,
    ]


@app.task(bind=True)
def tell_failure(self):
    self.update_state(state="FAILURE", meta={"exc_type": "ValueError", "exc_message": "as it tells"})
    raise Ignore


@app.task(bind=True)
def tell_header(self):
    return [self.request.trace, self.request.get("trace"), self.request.get("nothing", "else")]


@app.task
def fail_with_several():
    raise ExceptionGroup("several", [ValueError("one")])


def example_a_group_as_the_body_of_a_chord():
    return [
        chord([add.s(1, 1), add.s(2, 2)], group(xsum.s(), echo.s()))().get(timeout=WITHIN),
        chain(add.s(1, 1), group(add.s(1), add.s(2)), group(xsum.s(), echo.s()))().get(timeout=WITHIN),
    ]


def example_the_parent_of_a_group():
    result = chain(add.s(1, 1), group(add.s(1), add.s(2)))()
    apart = group(add.s(1, 1), chain(add.s(2, 2), add.s(3)))()
    return [result.get(timeout=WITHIN), result.parent.get(timeout=WITHIN), result.parent.parent, apart.parent]


def example_callbacks_that_take_nothing():
    chord([add.s(1, 1), fail.s()], xsum.s().on_error(keep.si("told nothing", "quiet-of-chord")))()
    fail.apply_async(link_error=on_fail_in_full.si(None, None, "m", "quiet"))
    return [noted("quiet-of-chord", 1), len(noted("quiet", 1))]


def example_callbacks_of_groups():
    linked = group(add.s(1, 1), add.s(2, 2))
    linked.link(keep.s("first is done", "of-a-group"))
    caught = group(add.s(1, 1), fail.s())
    caught.link_error(on_fail_in_full.s("of-a-failing-group"))
    caught()
    return [
        raised(lambda: group(add.s(1, 1)).apply_async(link=keep.s("x"))),
        raised(lambda: group(add.s(1, 1)).apply_async(link_error=keep.s("x"))),
        linked().get(timeout=WITHIN),
        noted("of-a-group", 1),
        len(noted("of-a-failing-group", 1)),
    ]


def example_a_failure_that_a_task_tells():
    result = tell_failure.delay()
    until(lambda: result.state == "FAILURE")
    return [raised(lambda: result.get(timeout=WITHIN)), repr(result.result), result.failed()]


def example_the_error_of_a_chord():
    result = chord([add.s(1, 1), fail.s()], xsum.s())()
    return [raised(lambda: result.get(timeout=WITHIN)), type(result.get(propagate=False)).__name__]


def example_headers():
    return tell_header.apply_async(headers={"trace": "abc"}).get(timeout=WITHIN)


def example_arguments_that_do_not_fit():
    return [
        raised(lambda: add.delay(1))[0],
        raised(lambda: add.apply_async("ab")),
        raised(lambda: app.send_task("examples.add", "ab")),
    ]


def example_what_a_set_of_results_drops():
    results = ResultSet([add.delay(1, 1), add.delay(2, 2)])
    first = results[0]
    results.discard(first)
    results.discard(first)
    absent = raised(lambda: results.remove(first))[0]
    left = [value["result"] for _, value in results.iter_native()]
    results.clear()
    return [absent, left, len(results), isinstance(group(add.s(1, 1))(), ResultSet)]


def example_names():
    return [
        add.__name__,
        app.gen_task_name("add", "examples"),
        states.precedence("FAILURE"),
        states.state("PENDING") < states.state("PROGRESS") < states.state("SUCCESS"),
        sorted(states.ALL_STATES),
    ]


def example_what_was_set():
    app.conf.result_extended = True
    return app.conf.result_extended


@app.task
def call_back(callback, value):
    maybe_signature(callback, app=app).apply_async((value,))
    return [callback["task"], callback["args"], callback["immutable"], callback["subtask_type"]]


def example_calls_as_arguments():
    linked = add.s(3)
    linked.link(keep.s("called-linked"))
    calls = {
        "called": keep.s("called"),
        "called-late": keep.s("called-late").set(countdown=0.1),
        "called-own": keep.si([date(2026, 1, 31).isoformat()], "called-own"),
        "called-chain": chain(add.s(3), keep.s("called-chain")),
        "called-group": group(keep.s("called-group"), add.s(1)),
        "called-chord": chord([add.s(1), add.s(2)], chain(xsum.s(), keep.s("called-chord"))),
        "called-linked": linked,
    }
    told = {key: call_back.delay(call, 2).get(timeout=WITHIN) for key, call in calls.items()}
    return [
        [told[key] for key in ("called", "called-own")],
        [told[key][3] for key in ("called-chain", "called-group", "called-chord")],
        {key: noted(key, 1) for key in calls},
        maybe_signature(None),
        raised(lambda: call_back.delay(object(), 2).get(timeout=WITHIN))[0] is not None,
    ]


def example_callbacks_that_are_composed():
    linked = add.s(5)
    linked.link(keep.s("composed-link"))
    callbacks = {
        "composed-chain": chain(add.s(3), keep.s("composed-chain")),
        "composed-group": group(keep.s("composed-group"), add.s(1)),
        "composed-chord": chord([add.s(1), add.s(2)], chain(xsum.s(), keep.s("composed-chord"))),
        "composed-link": linked,
    }
    for callback in callbacks.values():
        add.apply_async((1, 1), link=callback).get(timeout=WITHIN)
    chain(add.s(1, 1), add.s(2)).apply_async(link=chain(add.s(3), keep.s("composed-of-chain")))
    return [{key: noted(key, 1) for key in callbacks}, noted("composed-of-chain", 1)]


@app.task
def hold(key):
    note(key, "begun")
    until(lambda: (NOTES / f"{key}-goes").exists())


def example_looking_at_workers():
    result = hold.delay("held")
    # A worker that does not listen yet is asked in vain.
    noted("held", 1)
    look = app.control.inspect(timeout=WITHIN, limit=1)

    def running():
        return [
            (name, each)
            for name, tasks in (look.active() or {}).items()
            for each in tasks
            if each["id"] == result.id
        ]

    until(running)
    [(name, one)] = running()
    said = [
        list(look.ping().values()),
        [one["name"], one["type"], one["hostname"] == name, one["delivery_info"]["routing_key"]],
        [type(one["time_start"]).__name__, type(one["worker_pid"]).__name__],
        {"examples.hold", "examples.add", "a-name-of-its-own"} <= set(look.registered()[name]),
        {"celery", "routed", "far"} <= {each["name"] for each in look.active_queues()[name]},
        [type(look.stats()[name][what]).__name__ for what in ("pid", "uptime")],
        look.stats()[name]["pool"]["max-concurrency"] > 0,
        list(app.control.inspect([name], timeout=WITHIN, limit=1).ping()) == [name],
        app.control.ping(timeout=WITHIN, limit=1) == [{name: {"ok": "pong"}}],
    ]
    (NOTES / "held-goes").touch()
    result.get(timeout=WITHIN)
    return said


def main():
    outcomes = {}
    for name, example in list(globals().items()):
        if name.startswith("example_"):
            if len(sys.argv) > 1 and sys.argv[1] not in name:
                continue
            began = time.monotonic()
            try:
                outcomes[name.removeprefix("example_")] = json.loads(json.dumps(example()))
            except BaseException:
                outcomes[name.removeprefix("example_")] = traceback.format_exc()
            if "EXAMPLES_TIMES" in os.environ:
                print(f"{time.monotonic() - began:6.2f} {name}", file=sys.stderr)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    import examples

    examples.main()
