"""The settings of an app: those that mean something here, and what becomes of all others.

A setting without a counterpart raises NotImplementedError when it is set. One that concerns a broker that is
not there is ignored with a warning.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import ModuleType
from typing import Any, Final

from pgqueue.compat.celery.exceptions import ImproperlyConfigured
from pgqueue.compat.celery.schedules import check_entry
from pgqueue.compat.celery.sending import queues_in
from pgqueue.compat.missing import not_there

DEFAULTS: Final[Mapping[str, Any]] = {
    "accept_content": ["json"],
    "beat_schedule": {},
    "broker_url": None,
    "enable_utc": True,
    "event_serializer": "json",
    "imports": (),
    "include": (),
    "pgqueue": {},
    "result_accept_content": None,
    "result_backend": None,
    "result_serializer": "json",
    "task_acks_late": False,
    "task_acks_on_failure_or_timeout": True,
    "task_always_eager": False,
    "task_create_missing_queues": True,
    "task_default_priority": None,
    "task_default_queue": "celery",
    "task_default_rate_limit": None,
    "task_eager_propagates": False,
    "task_ignore_result": False,
    "task_publish_retry": True,
    "task_queues": None,
    "task_reject_on_worker_lost": False,
    "task_routes": None,
    "task_serializer": "json",
    "task_soft_time_limit": None,
    "task_time_limit": None,
    "task_track_started": False,
    "timezone": None,
    "worker_prefetch_multiplier": 1,
}
"""What can be set. `pgqueue`: arguments of the PgQueue beneath, such as `schema` and `retention`."""

FROZEN: Final = frozenset(
    {
        "pgqueue", "task_acks_late", "task_default_rate_limit", "task_ignore_result",
        "task_reject_on_worker_lost", "task_soft_time_limit", "task_time_limit",
    }
)  # fmt: skip
"""What tasks are declared with: it cannot change once the app was used."""

_JSON: Final = frozenset({"json", "application/json"})
_NO_MATTER: Final = frozenset(
    {
        "result_extended", "result_persistent", "task_compression", "task_default_delivery_mode",
        "task_protocol",
        "task_queue_max_priority", "task_remote_tracebacks", "task_send_sent_event",
        "task_store_errors_even_if_ignored", "worker_cancel_long_running_tasks_on_connection_loss",
        "worker_disable_rate_limits", "worker_enable_remote_control", "worker_hijack_root_logger",
        "worker_log_color", "worker_redirect_stdouts", "worker_redirect_stdouts_level",
        "worker_send_task_events", "worker_state_db", "worker_proc_alive_timeout", "worker_lost_wait",
        "task_inherit_parent_priority", "worker_deduplicate_successful_tasks", "beat_max_loop_interval",
        "beat_sync_every", "beat_schedule_filename",
    }
)  # fmt: skip
"""What changes no delivery: logs, events, and what is always so here."""
_OF_BROKERS: Final = (
    "broker_", "redis_", "result_backend_", "database_", "cassandra_", "mongodb_", "s3_", "azureblockblob_",
    "couchbase_", "elasticsearch_", "arangodb_", "cosmosdbsql_", "dynamodb_", "gcs_", "control_", "event_",
    "cache_", "consul_", "couchdb_", "filesystem_",
)  # fmt: skip
_WAYS: Final[Mapping[str, str]] = {
    "beat_scheduler": "workers tick schedules: use beat_schedule, and `pgqueue schedules` at run time",
    "result_chord_join_timeout": "chords wait for as long as their tasks take; set expires= on the tasks",
    "result_compression": "leave it out: PostgreSQL compresses large values",
    "result_expires": 'set conf.pgqueue = {"retention": {"succeeded": seconds, "failed": seconds}}',
    "task_annotations": "set the options on the tasks themselves, or change them with `pgqueue configure`",
    "task_default_exchange": "use task_default_queue",
    "task_default_exchange_type": "use queues",
    "task_default_routing_key": "use task_default_queue",
    "task_publish_retry_policy": "catch DatabaseUnavailableError where you enqueue",
    "task_store_eager_result": "use the test kit, pgqueue.testing, for jobs that run in tests",
    "worker_concurrency": "run `pgqueue worker --concurrency N`, or set PGQUEUE_CONCURRENCY",
    "worker_max_memory_per_child": "run `pgqueue worker --max-rss MIB`",
    "worker_max_tasks_per_child": "run `pgqueue worker --max-jobs N`",
    "worker_pool": "leave it out: functions run in threads, and those with time limits in child processes",
    "worker_prefetch_multiplier": "run `pgqueue worker --prefetch-multiplier N`, or leave it at 1",
    "worker_soft_shutdown_timeout": "run `pgqueue worker --grace SECONDS`",
}
_BEGINNINGS: Final = ("task_", "worker_", "result_", "beat_", "security_", *_OF_BROKERS)


class IgnoredSettingWarning(UserWarning):
    """A setting about a broker was ignored, because there is none."""


class Settings:
    """The settings of one app: attributes, items, and `update`."""

    def __init__(self, on_change: Callable[[Mapping[str, Any]], None]) -> None:
        values = {name: dict(value) if isinstance(value, dict) else value for name, value in DEFAULTS.items()}
        vars(self).update(_values=values, _on_change=on_change)

    def __getattr__(self, name: str) -> Any:
        values: dict[str, Any] = vars(self).get("_values", {})
        if name in values:
            return values[name]
        raise _unknown(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._set({name: value})

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError as error:
            raise KeyError(name) from error

    def __setitem__(self, name: str, value: Any) -> None:
        self._set({name: value})

    def __contains__(self, name: object) -> bool:
        return name in vars(self)["_values"]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self)["_values"])

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting, or *default* if there is none of this name."""
        return getattr(self, name, default)

    def update(self, given: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Set several: all of them, or none if one of them is refused."""
        self._set({**(given or {}), **named})

    def _set(self, given: Mapping[str, Any]) -> None:
        ignored = [name for name in given if not _is_known(name)]
        checked = {name: _check(name, value) for name, value in given.items() if name in DEFAULTS}
        vars(self)["_on_change"](checked)
        # What has no effect can be read again all the same.
        vars(self)["_values"].update({**given, **checked})
        for name in ignored:
            warnings.warn(f"{name}: ignored, there is no broker", IgnoredSettingWarning, stacklevel=3)


def _is_known(name: str) -> bool:
    """Whether a setting is there or makes no difference; False: a broker's. Raises NotThereError."""
    if name in DEFAULTS or name in _NO_MATTER:
        return True
    if name in _WAYS or not name.startswith(_OF_BROKERS):
        raise _unknown(name)
    return False


def read_object(given: Any, namespace: str | None) -> dict[str, Any]:
    """Return the settings that an object, a module or its name, or a mapping has.

    With a *namespace* they are its upper-case names that begin with it; without, its lower-case ones.
    """
    if isinstance(given, str):
        module, _, name = given.partition(":")
        given = importlib.import_module(module)
        given = getattr(given, name) if name else given
    found = dict(given) if isinstance(given, Mapping) else {name: getattr(given, name) for name in dir(given)}
    if namespace:
        start = f"{namespace}_"
        return {
            name.removeprefix(start).lower(): value
            for name, value in found.items()
            if name.startswith(start) and name.isupper()
        }
    if isinstance(given, Mapping):
        return found
    for name, value in found.items():
        if name.isupper() and name.startswith(("CELERY", "BROKER_")) and not isinstance(value, ModuleType):
            raise not_there(f"the setting {name}", f"use its lower-case name, or namespace={'CELERY'!r}")
    # A module has other names, too: of what it imports.
    return {name: value for name, value in found.items() if name in DEFAULTS or name.startswith(_BEGINNINGS)}


def _check(name: str, value: Any) -> Any:
    if name.endswith("_serializer") and value not in _JSON:
        raise not_there(
            f"{name}={value!r}", "use 'json': nothing is pickled, since a job's row is no program"
        )
    if name.endswith("accept_content") and value is not None and not {*value} <= _JSON:
        raise not_there(f"{name}={value!r}", "use ['json']")
    if name == "worker_prefetch_multiplier" and value != 1:
        raise _unknown(name)
    if name == "task_acks_on_failure_or_timeout" and value is not True:
        raise not_there(f"{name}=False", "use autoretry_for=(...): a failed attempt is retried or has failed")
    if name in ("task_time_limit", "task_soft_time_limit") and isinstance(value, timedelta):
        return value.total_seconds()
    if name in _CHECKS:
        _CHECKS[name](value)
    return value


def _check_schedules(value: Any) -> None:
    for name, entry in _mapping("beat_schedule", value).items():
        check_entry(name, entry)


def _check_pgqueue(value: Any) -> None:
    refused = {*_mapping("pgqueue", value)} & {"dsn", "strict_queues"}
    if refused:
        raise ImproperlyConfigured(
            f"conf.pgqueue cannot have {min(refused)!r}: use broker= and task_create_missing_queues"
        )


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ImproperlyConfigured(f"{name} must be a mapping, got {value!r}")
    return value


_CHECKS: Final[Mapping[str, Callable[[Any], object]]] = {
    "beat_schedule": _check_schedules,
    "pgqueue": _check_pgqueue,
    # What a route cannot have is refused now, and not when something is sent.
    "task_routes": queues_in,
}


def _unknown(name: str) -> Exception:
    way = _WAYS.get(name)
    if way is None and name.isupper():
        way = "use its lower-case name, such as task_serializer for CELERY_TASK_SERIALIZER"
    if way is None:
        way = "docs/reference/compat.md lists the settings that are there"
    return not_there(f"the setting {name}", way)
