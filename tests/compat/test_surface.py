"""What the classes of Celery, RQ and Dramatiq have is there, or says what to do instead: nothing is a bare
AttributeError, and no path of an import that their guides use is missing."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import celery
import celery.app.task
import celery.canvas
import celery.result
import celery.schedules
import dramatiq
import dramatiq.middleware
import dramatiq.rate_limits
import dramatiq.results
import pytest
import rq
import rq.registry

from pgqueue.compat import NotThereError
from pgqueue.compat import dramatiq as our_dramatiq
from pgqueue.compat import rq as our_rq
from pgqueue.compat.celery import Celery, chain, chord, group
from pgqueue.compat.celery.request import Request
from pgqueue.compat.celery.result import AsyncResult, EagerResult, GroupResult, ResultSet
from pgqueue.compat.celery.schedules import crontab, schedule
from pgqueue.compat.rq.registry import FailedJobRegistry, ScheduledJobRegistry

pytestmark = [pytest.mark.contract("P8.11"), pytest.mark.any_server]

DSN = "postgresql://localhost/nobody-connects-to-it"
app = Celery("surface", broker=DSN, set_as_current=False)
add = app.task(name="add")(lambda a, b: a + b)
redis = our_rq.Redis.from_url(DSN)
broker = our_dramatiq.Broker(DSN)
message = our_dramatiq.Message("default", "add", (1, 2), {}, {})

PAIRS: list[tuple[Any, Callable[[], Any]]] = [
    (celery.Celery, lambda: app),
    (celery.Task, lambda: add),
    (celery.app.task.Context, Request),
    (celery.canvas.Signature, lambda: add.s(1, 2)),
    (celery.canvas.chain, lambda: chain(add.s(1, 2), add.s(3))),
    (celery.canvas.group, lambda: group(add.s(1, 2))),
    (celery.canvas.chord, lambda: chord([add.s(1, 2)], add.s(3))),
    (celery.result.AsyncResult, lambda: AsyncResult("an id", app=app)),
    (celery.result.EagerResult, lambda: EagerResult("an id", 1, "SUCCESS")),
    (celery.result.GroupResult, lambda: GroupResult("an id")),
    (celery.result.ResultSet, ResultSet),
    (celery.schedules.crontab, crontab),
    (celery.schedules.schedule, lambda: schedule(60)),
    (rq.Queue, lambda: our_rq.Queue("default", redis)),
    (rq.job.Job, lambda: our_rq.Job("an id", redis)),
    (rq.Worker, lambda: our_rq.Worker(["default"], connection=redis)),
    (rq.registry.FailedJobRegistry, lambda: FailedJobRegistry("default", redis)),
    (rq.registry.ScheduledJobRegistry, lambda: ScheduledJobRegistry("default", redis)),
    (dramatiq.Broker, lambda: broker),
    (dramatiq.Message, lambda: message),
    (dramatiq.Worker, lambda: our_dramatiq.Worker(broker)),
    (dramatiq.results.ResultBackend, broker.get_results_backend),
]
PACKAGES = [dramatiq.middleware, dramatiq.results, dramatiq.rate_limits]


@pytest.mark.parametrize(("theirs", "make"), PAIRS, ids=lambda each: getattr(each, "__name__", ""))
def test_what_is_not_there_says_what_to_do(theirs: Any, make: Callable[[], Any]) -> None:
    ours = make()
    missing = [
        name
        for name in dir(theirs)
        if not name.startswith("_") and name not in {*dir(type(ours)), *vars(ours)} and name.islower()
    ]

    for name in missing:
        with pytest.raises(NotThereError, match=r"is not available over pgqueue: \w"):
            getattr(ours, name)
        assert not hasattr(ours, name)


def test_an_error_inside_a_property_is_the_one_that_is_seen() -> None:
    class Shop(Celery):
        @property
        def till(self) -> Any:
            return {}.till  # type: ignore[attr-defined]  # as a user's mistake

    class Base(app.Task):  # type: ignore[name-defined,misc]  # the class of an app
        @property
        def till(self) -> Any:
            return {}.till  # type: ignore[attr-defined]  # as a user's mistake

    for owner in (Shop("shop", broker=DSN, set_as_current=False), app.task(base=Base, name="t")(print)):
        with pytest.raises(AttributeError, match="'dict' object has no attribute 'till'"):
            owner.till  # noqa: B018  # it is to raise


@pytest.mark.parametrize("package", PACKAGES, ids=lambda each: str(each.__name__))
def test_a_deep_import_of_dramatiq_finds_what_is_there(package: Any) -> None:
    ours = importlib.import_module(f"pgqueue.compat.{package.__name__}")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        theirs = importlib.import_module(module.name)
        classes = {
            name
            for name, value in vars(theirs).items()
            if isinstance(value, type) and value.__module__ == module.name and hasattr(ours, name)
        }
        if classes:
            deep = importlib.import_module(f"pgqueue.compat.{module.name}")
            assert {name for name in classes if getattr(deep, name) is not getattr(ours, name)} == set()


def test_celery_keeps_its_paths_and_a_missing_one_says_what_to_use() -> None:
    base = importlib.import_module("pgqueue.compat.celery.app.base")
    task = importlib.import_module("pgqueue.compat.celery.app.task")

    assert [base.Celery, task.Task] == [Celery, app.Task]
    with pytest.raises(ImportError, match=r"celery\.contrib is not available over pgqueue: test with"):
        importlib.import_module("pgqueue.compat.celery.contrib.abortable")
