"""From the options of Celery's calls to those of pgqueue's."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from pgqueue.compat.celery.exceptions import ImproperlyConfigured
from pgqueue.compat.missing import not_there

_WAYS: Final[Mapping[str, str]] = {
    "chord": "use chord(header, body)",
    "compression": "leave it out: PostgreSQL compresses large values",
    "connection": "enqueue a task of app.pgqueue with `options(connection=...)`, in your transaction",
    "exchange": "use queue=",
    "delivery_mode": "leave it out: every job is on the disk once the call has returned",
    "group_id": "use group(...)",
    "immediate": "leave it out",
    "mandatory": "leave it out",
    "parent_id": "use chain(...)",
    "producer": "enqueue a task of app.pgqueue with `options(connection=...)`, in your transaction",
    "publisher": "enqueue a task of app.pgqueue with `options(connection=...)`, in your transaction",
    "reply_to": "leave it out",
    "retry_policy": "catch DatabaseUnavailableError where you enqueue",
    "root_id": "use chain(...), group(...) or chord(...)",
    "router": "set conf.task_routes",
    "routing_key": "use queue=",
    "shadow": "declare the task with another name=",
    "stamped_headers": "use headers=",
}
_NO_MATTER: Final = frozenset(
    {"add_to_parent", "argsrepr", "kwargsrepr", "origin", "retries", "retry", "serializer", "throw"}
)
_SAME: Final[Mapping[str, str]] = {
    "countdown": "delay",
    "headers": "headers",
    "ignore_result": "ignore_result",
    "priority": "priority",
    "soft_time_limit": "soft_timeout",
    "time_limit": "timeout",
}
"""What pgqueue calls the options whose values stay."""
CALLBACKS: Final = ("link", "link_error")
"""What a call says beside its options."""


def call_options(app: Any, task: Any, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return pgqueue's options for *given*, those of `apply_async`. *task*: None if it is not known here.

    Raises NotImplementedError for an option without a counterpart, TypeError for one that there is not.
    """
    options: dict[str, Any] = {}
    for option, value in given.items():
        if option in CALLBACKS or value is None:
            continue
        found = _read(app, task, name, option, value)
        if found is not None:
            options[found[0]] = found[1]
    if "delay" in options and "run_at" in options:
        raise ImproperlyConfigured(f"task {name}: pass countdown or eta, and not both")
    if "queue" not in options and getattr(task, "queue", None) is None:
        options.update({**route_of(app, task, name, given), **_without("queue", options)})
    return options


def _without(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {each: value for each, value in options.items() if each != name}


def _read(app: Any, task: Any, name: str, option: str, value: Any) -> tuple[str, Any] | None:
    """Return the option of pgqueue's that one is, and its value; None: it makes no difference."""
    if option in _READ:
        other, read = _READ[option]
        return other, read(app, value)
    if option == "serializer" and value not in ("json", "application/json"):
        raise not_there(f"serializer={value!r}", "use 'json'")
    if option == "headers" and not all(isinstance(each, str) for each in (*value, *value.values())):
        raise not_there(f"task {name}: a header that is no text", "pass str(value), or an argument")
    if option == "soft_time_limit" and task is not None and not task.is_isolated:
        raise not_there(
            f"task {name}: soft_time_limit= of a call", "declare the task with a limit, or set the conf's"
        )
    if option in _WAYS:
        raise not_there(f"{option}=", _WAYS[option])
    if option in _NO_MATTER:
        return None
    if option not in _SAME:
        raise TypeError(f"task {name}: apply_async() has no option {option!r}")
    return _SAME[option], value


def args_of(given: Any) -> tuple[Any, ...]:
    """Return positional arguments, which have to be a list or a tuple: of a string each letter would be one.

    Raises TypeError.
    """
    if given is not None and not isinstance(given, list | tuple):
        raise TypeError("task args must be a list or tuple")
    return tuple(given or ())


def aware(app: Any, moment: Any) -> datetime:
    """Return a time with a time zone: that of the app if it has none. Strings are read as ISO 8601."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if not isinstance(moment, datetime):
        raise TypeError(f"eta must be a datetime, got {moment!r}")
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone_of(app))


def zone_of(app: Any) -> Any:
    """Return the time zone in which an app's times without one are. *enable_utc* without one means UTC."""
    zone = app.conf.timezone
    if zone is None:
        return UTC
    return ZoneInfo(zone) if isinstance(zone, str) else zone


def expiry(app: Any, value: Any) -> Any:
    """Return when a task expires: seconds, or a time with a time zone."""
    if isinstance(value, datetime | str):
        return aware(app, value)
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds <= 0:
        # Expired already: it is revoked, and no error.
        return datetime.now(UTC) + timedelta(seconds=seconds)
    return seconds


def queue_name(value: Any) -> str:
    """Return the name of a queue, which may be one of kombu's."""
    name: str = value if isinstance(value, str) else value.name
    return name


def route_of(app: Any, task: Any, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that `task_routes` has for a task."""
    for router in routers_of(app.conf.task_routes):
        route = router(name, (), {}, dict(given), task=task) if callable(router) else _match(router, name)
        if route:
            return _route(route)
    return {}


def routers_of(routes: Any) -> list[Any]:
    """Return `task_routes` as a list of functions and of lists of pairs."""
    if not routes:
        return []
    given = routes if isinstance(routes, list | tuple) else [routes]
    pairs = [each for each in given if isinstance(each, tuple) and len(each) == 2]
    if pairs and len(pairs) == len(given):
        return [list(given)]
    for each in given:
        if isinstance(each, str):
            raise not_there("a router by its name", "import it, and put the function into task_routes")
    return [list(each.items()) if isinstance(each, Mapping) else each for each in given]


def queues_in(routes: Any) -> set[str]:
    """Return the queues that `task_routes` names, as far as they can be read."""
    found: set[str] = set()
    for router in routers_of(routes):
        if not callable(router):
            found |= {route["queue"] for _, value in router if "queue" in (route := _route(value))}
    return found


def _match(pairs: Iterable[tuple[Any, Any]], name: str) -> Any:
    for pattern, route in pairs:
        if isinstance(pattern, re.Pattern):
            if pattern.match(name):
                return route
        elif pattern == name or fnmatch.fnmatchcase(name, pattern):
            return route
    return None


def _route(route: Any) -> dict[str, Any]:
    if isinstance(route, str):
        return {"queue": route}
    options: dict[str, Any] = {}
    for option, value in route.items():
        if option == "queue":
            options["queue"] = queue_name(value)
        elif option == "priority":
            options["priority"] = value
        else:
            raise not_there(f"{option}= in a route", _WAYS.get(option, "set it on the task"))
    return options


_READ: Final[Mapping[str, tuple[str, Callable[[Any, Any], Any]]]] = {
    "eta": ("run_at", aware),
    "expires": ("expires", expiry),
    "queue": ("queue", lambda _, value: queue_name(value)),
    "task_id": ("id", lambda _, value: str(value)),
}
"""The options whose values are read."""
