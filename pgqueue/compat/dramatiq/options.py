"""The options of actors and of messages, and the options of pgqueue that they become.

Times are in milliseconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from pgqueue.compat import not_there

KILL_AFTER: Final = 60.0
"""Seconds between TimeLimitExceeded in an actor and the end of its attempt."""
KEPT: Final = 7 * 86400
"""Seconds for which a PgQueue keeps jobs that have succeeded."""
LOWEST, HIGHEST = -32768, 32767
OF_ACTORS: Final = frozenset({"throws", "retry_when"})
"""What only an actor can have, because a message cannot carry it."""


def milliseconds(what: str, given: float | timedelta) -> float:
    """Return a time in seconds. Raises TypeError, ValueError."""
    if isinstance(given, timedelta):
        return given.total_seconds()
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{what} must be a number of milliseconds, got {given!r}")
    if given < 0:
        raise ValueError(f"{what} must not be negative, got {given!r}")
    return given / 1000


def pgqueue_options(given: Mapping[str, Any], *, is_message: bool = False) -> dict[str, Any]:
    """Return the options of pgqueue for those of an actor, or of a message."""
    options: dict[str, Any] = {}
    if is_message and (refused := OF_ACTORS & given.keys()):
        name = min(refused)
        raise not_there(f"send_with_options({name}=)", f"pass {name}= to the actor")
    if given.get("pipe_target") is not None:
        raise not_there("the option pipe_target", "compose messages: first.message() | second.message()")
    if given.get("notify_shutdown"):
        raise not_there("the option notify_shutdown", "read pgqueue.current_job().is_stopped")
    if milliseconds("result_ttl", given.get("result_ttl") or 0) > KEPT:
        raise not_there(
            f"the option result_ttl={given['result_ttl']!r}",
            "results are kept as long as their jobs: PgQueue(retention=...) has another time than 7 days",
        )
    if "max_retries" in given:
        options["max_retries"] = given["max_retries"]
    options |= _backoff(given)
    if given.get("time_limit") is not None:
        limit = milliseconds("time_limit", given["time_limit"])
        is_limited = math.isfinite(limit)
        options["soft_timeout"] = limit if is_limited else None
        options["timeout"] = limit + KILL_AFTER if is_limited else None
    if given.get("max_age"):
        options["expires"] = milliseconds("max_age", given["max_age"])
    if given.get("throws"):
        options["throws"] = given["throws"]
    if given.get("retry_when") is not None:
        options |= {"retry_when": _asking(given["retry_when"]), "max_retries": None}
    return options


def _backoff(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the delays: one to two times min_backoff, doubled each time, up to max_backoff."""
    options: dict[str, Any] = {}
    if given.get("min_backoff") is not None:
        # Of "equal" jitter, which draws from a half to the whole.
        options |= {
            "retry_backoff": 2 * milliseconds("min_backoff", given["min_backoff"]),
            "retry_jitter": "equal",
        }
    if given.get("max_backoff") is not None:
        options["retry_backoff_max"] = milliseconds("max_backoff", given["max_backoff"])
    return options


def _asking(retry_when: Callable[[int, BaseException], bool]) -> Callable[..., bool]:
    def ask(attempt: int, error: BaseException, job: object) -> bool:
        del job
        return bool(retry_when(attempt - 1, error))

    return ask


def plain(value: Any) -> Any:
    """Return *value* as Dramatiq's JSON gives it back. Raises TypeError, ValueError."""
    return json.loads(json.dumps(value))


def pgqueue_priority(priority: int) -> int:
    """Return the priority in pgqueue, where higher ones come first."""
    return max(LOWEST, min(HIGHEST, -priority))
