"""What `pgqueue.compat.celery` does beyond what an example under Celery can show."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pgqueue import ConfigurationError, DuplicateTaskError, JobStatus, PgQueue, UnknownQueueError
from pgqueue.compat.celery import Celery, Task, chain, chord, group, shared_task, signals
from pgqueue.compat.celery.conf import DEFAULTS, IgnoredSettingWarning
from pgqueue.compat.celery.exceptions import Ignore, Reject
from pgqueue.compat.celery.schedules import crontab, schedule, solar

pytestmark = pytest.mark.contract("P8.11")


@pytest.fixture
def app(dsn: str) -> Iterator[Celery]:
    with Celery("shop", broker=dsn) as app:
        yield app


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app without a database: nothing that is refused needs one."""
    monkeypatch.delenv("PGQUEUE_DSN", raising=False)
    return Celery("shop")


def do_nothing(*args: Any, **kwargs: Any) -> None:
    pass


OPTIONS_OF_TASKS: dict[str, Any] = {
    "serializer": "pickle",
    "compression": "gzip",
    "exchange": "x",
    "routing_key": "x",
    "pydantic": True,
    "acks_on_failure_or_timeout": False,
    "Request": object,
    "shadow_name": do_nothing,
}
OPTIONS_OF_CALLS: dict[str, Any] = {
    "serializer": "pickle",
    "compression": "gzip",
    "exchange": "x",
    "routing_key": "x",
    "retry_policy": {"max_retries": 3},
    "connection": object(),
    "producer": object(),
    "shadow": "another",
    "reply_to": "x",
    "soft_time_limit": 3,
}
SETTINGS: dict[str, Any] = {
    "task_serializer": "pickle",
    "accept_content": ["json", "pickle"],
    "worker_prefetch_multiplier": 4,
    "worker_concurrency": 4,
    "worker_max_tasks_per_child": 100,
    "result_expires": 3600,
    "task_annotations": {"*": {"rate_limit": "10/s"}},
    "beat_scheduler": "django_celery_beat.schedulers:DatabaseScheduler",
    "task_acks_on_failure_or_timeout": False,
    "task_no_such_setting": 1,
    "no_such_setting": 1,
    "worker_pool": "gevent",
    "task_routes": {"mail.*": {"queue": "mail", "routing_key": "mail.high"}},
    "beat_schedule": {"often": {"task": "x", "schedule": 3, "relative": True}},
    "security_key": "x",
}
CALLS: dict[str, Callable[[Celery], object]] = {
    "what workers have reserved": lambda app: app.control.inspect().reserved(),
    "revoked tasks": lambda app: app.control.inspect().revoked(),
    "attributes of tasks": lambda app: app.control.inspect().registered("rate_limit"),
    "broadcast": lambda app: app.control.broadcast("ping"),
    "purge": lambda app: app.control.purge(),
    "worker_main": lambda app: app.worker_main([]),
    "start": lambda app: app.start(),
    "connection": lambda app: app.connection(),
    "backend": lambda app: app.backend,
    "loader": lambda app: Celery("x", loader="x"),
    "freeze": lambda app: app.task(do_nothing).s().freeze(),
    "replace": lambda app: app.task(do_nothing).replace(),
    "update of another": lambda app: app.task(do_nothing).update_state(task_id="x", state="y"),
    "an async function": lambda app: app.task(an_async_function),
    "solar": lambda app: solar("sunset", 1, 2),
    "both days": lambda app: crontab(day_of_week=1, day_of_month=1),
    "relative": lambda app: schedule(3, relative=True),
    "task_received": lambda app: signals.task_received.connect(do_nothing),
    "before_task_publish": lambda app: signals.before_task_publish.connect(do_nothing),
    "collect": lambda app: app.AsyncResult("x").collect(),
    "children": lambda app: app.AsyncResult("x").children,
    "save": lambda app: app.GroupResult("x").save(),
    "parent_id": lambda app: app.task(do_nothing).request.parent_id,
    "signature of another kind": lambda app: app.signature({"task": "x", "subtask_type": "map"}),
    "error callback that is composed": lambda app: app.send_task(
        "x", link_error=chain(app.signature("y"), app.signature("z"))
    ),
    "broker of a result": lambda app: app.AsyncResult("x", backend="redis://"),
}


async def an_async_function() -> None:
    pass


@pytest.mark.parametrize("option", OPTIONS_OF_TASKS)
def test_an_option_of_a_task_that_is_not_there_is_refused_when_it_is_declared(
    nowhere: Celery, option: str
) -> None:
    with pytest.raises(NotImplementedError, match=f"{option}.*not available over pgqueue: "):
        nowhere.task(**{option: OPTIONS_OF_TASKS[option]})(do_nothing)


@pytest.mark.parametrize("option", OPTIONS_OF_CALLS)
def test_an_option_of_a_call_that_is_not_there_is_refused_before_anything_is_sent(
    nowhere: Celery, option: str
) -> None:
    task = nowhere.task(do_nothing)

    with pytest.raises(NotImplementedError, match=f"{option}.*not available over pgqueue: "):
        task.apply_async((), **{option: OPTIONS_OF_CALLS[option]})
    with pytest.raises(TypeError, match="no option 'no_such_option'"):
        task.apply_async((), no_such_option=1)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_is_not_there_is_refused_and_changes_nothing(nowhere: Celery, name: str) -> None:
    before = {each: nowhere.conf[each] for each in nowhere.conf}

    with pytest.raises(NotImplementedError, match="not available over pgqueue: "):
        nowhere.conf.update({"task_acks_late": True, name: SETTINGS[name]})
    with pytest.raises(NotImplementedError):
        setattr(nowhere.conf, name, SETTINGS[name])
    with pytest.raises(NotImplementedError):
        Celery("x", changes={name: SETTINGS[name]})

    assert {each: nowhere.conf[each] for each in nowhere.conf} == before
    assert before == {**DEFAULTS}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_not_there_says_what_to_do_instead(nowhere: Celery, call: str) -> None:
    with pytest.raises(NotImplementedError, match="not available over pgqueue: "):
        CALLS[call](nowhere)


def test_a_setting_about_a_broker_is_ignored_with_a_warning(nowhere: Celery) -> None:
    with pytest.warns(IgnoredSettingWarning, match="broker_transport_options: ignored") as caught:
        nowhere.conf.broker_transport_options = {"visibility_timeout": 3600}
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nowhere.conf.update(worker_send_task_events=True, task_queue_max_priority=10)


def test_settings_are_read_from_objects_modules_and_with_a_prefix(nowhere: Celery) -> None:
    class Config:
        task_acks_late = True
        timezone = "Europe/Paris"
        helper = "not a setting"

    class Prefixed:
        CELERY_TASK_DEFAULT_QUEUE = "mail"
        DEBUG = True

    class Old:
        CELERY_TASK_SERIALIZER = "json"

    nowhere.config_from_object(Config)
    nowhere.config_from_object(Prefixed(), namespace="CELERY")

    assert nowhere.conf.task_acks_late
    assert str(nowhere.timezone) == "Europe/Paris"
    assert nowhere.conf.task_default_queue == "mail"
    with pytest.raises(NotImplementedError, match="CELERY_TASK_SERIALIZER"):
        nowhere.config_from_object(Old)


def test_tasks_are_declared_with_what_celery_promises(nowhere: Celery) -> None:
    nowhere.conf.update(task_acks_late=True, task_time_limit=60, task_soft_time_limit=50)

    @nowhere.task(name="plain")  # type: ignore[untyped-decorator]
    def plain() -> None:
        pass

    @nowhere.task(  # type: ignore[untyped-decorator]
        name="own", acks_late=False, time_limit=5, max_retries=None, queue="mail", throws=(KeyError,)
    )
    def own() -> None:
        pass

    nowhere.task(name="limited")(do_nothing)
    registry = nowhere.served.registry
    found = {name: registry.get(name) for name in ("plain", "own", "limited")}
    options = {name: dict(each.options) for name, each in found.items() if each is not None}

    assert options["plain"] == options["plain"] | {
        "timeout": 60, "soft_timeout": 50, "max_retries": 3, "default_retry_delay": 180, "acks_late": True,
        "autoretry_for": (), "retry_on_timeout": False, "queue": "celery", "ignore_result": False,
    }  # fmt: skip
    assert options["own"] == options["own"] | {
        "timeout": 5, "max_retries": None, "acks_late": False, "queue": "mail", "throws": (KeyError,),
    }  # fmt: skip
    # A function at the top of a module can be stopped wherever it is; one inside another runs in a thread.
    assert [each.is_isolated for each in found.values() if each is not None] == [False, False, True]
    with pytest.raises(ConfigurationError, match="task_time_limit was set after the app was used"):
        nowhere.conf.task_time_limit = 3
    nowhere.conf.task_time_limit = 60


def test_two_tasks_of_one_name_are_refused(nowhere: Celery) -> None:
    first = nowhere.task(name="one")(do_nothing)

    assert nowhere.task(name="one")(do_nothing) is first
    with pytest.raises(DuplicateTaskError, match="'one' is declared twice"):
        nowhere.task(name="one")(lambda: None)


def test_a_worker_is_needed_for_nothing_but_results(app: Celery) -> None:
    add = app.task(name="add")(lambda a, b: a + b)

    result = add.delay(1, 2)
    later = add.apply_async((1, 2), countdown=60, priority=5, queue="mail", headers={"tenant": "ann"})
    job = app.client.get(later.id)

    assert [result.state, result.ready(), result.result] == ["PENDING", False, None]
    assert (job.status, job.priority, job.queue) == (JobStatus.SCHEDULED, 5, "mail")
    assert job.headers == {"tenant": "ann"}
    assert job.arguments == {"a": 1, "b": 2}
    result.revoke()
    assert [result.state, result.ready()] == ["REVOKED", True]
    app.control.revoke(["not-an-id", later.id])
    assert later.state == "REVOKED"


def test_a_time_without_a_time_zone_is_in_that_of_the_app(app: Celery) -> None:
    add = app.task(name="add")(lambda a, b: a + b)
    app.conf.timezone = "Europe/Paris"

    job = app.client.get(add.apply_async((1, 2), eta=datetime(2030, 1, 1, 12)).id)  # noqa: DTZ001

    assert job.run_at == datetime(2030, 1, 1, 11, tzinfo=UTC)


def test_missing_queues_are_refused_where_they_are_not_to_be_made(app: Celery) -> None:
    app.conf.update(task_create_missing_queues=False, task_queues=["mail"])
    add = app.task(name="add", queue="own")(lambda a, b: a + b)

    for queue in ("mail", "own", "celery"):
        add.apply_async((1, 2), queue=queue)
    with pytest.raises(UnknownQueueError):
        add.apply_async((1, 2), queue="elsewhere")
    with pytest.raises(UnknownQueueError):
        group(add.s(1, 2).set(queue="elsewhere"), add.s(1, 2))()


async def test_tasks_run_in_a_worker_of_this_process_and_beside_tasks_of_pgqueue(app: Celery) -> None:
    noted: list[Any] = []

    @app.task(name="send", bind=True)  # type: ignore[untyped-decorator]
    def send(self: Task, what: str) -> str:
        noted.append((self.request.headers, self.request.delivery_info["priority"]))
        if what == "ignored":
            raise Ignore
        if what == "rejected":
            raise Reject("no", requeue=False)
        if what == "requeued" and len(noted) < 3:
            raise Reject("not yet", requeue=True)
        return what

    @app.pgqueue.task
    async def native(a: int) -> int:
        return 2 * a

    pgq: PgQueue = app.pgqueue
    async with pgq, pgq.worker():
        own = await native.enqueue(4)
        results = [send.delay(what) for what in ("ignored", "rejected", "requeued")]
        assert await own.result(60) == 8
        for each in results:
            await pgq.wait(each.id)

    assert [each.state for each in results] == ["IGNORED", "REJECTED", "SUCCESS"]
    assert [each.ready() for each in results] == [True, True, True]
    assert results[0].get() is None
    with pytest.raises(Reject, match="no"):
        results[1].get()
    assert noted[0] == ({}, 0)


async def test_a_beat_schedule_is_one_of_pgqueue_s(app: Celery) -> None:
    add = app.task(name="add")(lambda a, b: a + b)
    app.conf.update(
        timezone="Europe/Paris",
        beat_schedule={
            "every-minute": {"task": "add", "schedule": crontab(), "args": (1, 2)},
            "mornings": {
                "task": "add",
                "schedule": crontab(minute=30, hour="7,8", day_of_week="mon-fri"),
                "kwargs": {"a": 1, "b": 2},
                "options": {"queue": "mail", "priority": 3},
            },
            "often": {"task": "add", "schedule": timedelta(seconds=30), "args": (1, 2)},
        },
    )

    @app.on_after_configure.connect
    def set_up(sender: Celery, **_: Any) -> None:
        sender.add_periodic_task(10.0, add.s(1, 2), name="periodic")

    async with app.pgqueue as pgq:
        await pgq.write_schedules()
        found = {each.name: each for each in await pgq.schedules.list()}

    assert {name: (each.cron, each.every, each.timezone) for name, each in found.items()} == {
        "every-minute": ("* * * * *", None, "Europe/Paris"),
        "mornings": ("30 7,8 * * mon-fri", None, "Europe/Paris"),
        "often": (None, 30.0, "Europe/Paris"),
        "periodic": (None, 10.0, "Europe/Paris"),
    }
    assert (found["mornings"].queue, found["mornings"].priority) == ("mail", 3)
    assert [each.arguments for each in found.values()] == [{"a": 1, "b": 2}] * 4
    app.conf.beat_schedule = {"unknown": {"task": "no_such_task", "schedule": 3}}
    again = Celery("again", changes={"beat_schedule": app.conf.beat_schedule})
    with pytest.raises(KeyError, match="no task is called 'no_such_task'"):
        _ = again.pgqueue


def test_a_shared_task_belongs_to_the_current_app(app: Celery) -> None:
    @shared_task(name="shared")  # type: ignore[untyped-decorator]
    def shared(a: int) -> int:
        return a

    class Based(Task):
        pass

    other = Celery("other", task_cls=Based, set_as_current=False)
    assert isinstance(other.tasks["shared"], Based)
    assert other.tasks["shared"].app is other
    assert shared.app is app
    assert "shared" in app.tasks
    result = chain(shared.s(1), shared.s())()
    assert [result.state, result.parent.state, result.parent.parent] == ["PENDING", "PENDING", None]


def test_a_callback_of_a_group_and_an_empty_chord_are_refused_with_what_to_do(app: Celery) -> None:
    add = app.task(name="add")(lambda a, b: a + b)

    with pytest.raises(TypeError, match="Cannot add link to group: use a chord"):
        chain(add.s(1, 2), group(add.s(1)).set(link=add.s(2))).apply_async()
    with pytest.raises(TypeError, match="Cannot add link to group: do that on individual tasks"):
        group(add.s(1, 2)).apply_async(link_error=add.s(2))
    with pytest.raises(Exception, match="chord must have a body"):
        chord([add.s(1, 2)]).apply_async()
