"""Classes of RQ that are not there: to be imported, and refused where they are used."""

from __future__ import annotations

from typing import Any

from pgqueue.compat import not_there


class Repeat:
    """Not there: what runs again and again is a schedule."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise not_there(
            "Repeat", "declare a schedule: @pgq.schedule(every=60), or await pgq.schedules.create(...)"
        )


class Webhook:
    """Not there: a PgQueue has webhooks."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise not_there("Webhook", "make one by pgq.webhook(name, url=...); a task has webhooks=[...]")


class RateLimit:
    """Not there: a task has limits."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise not_there("RateLimit", "declare it for a task: @pgq.task(limits=[pgq.limit(name, rate=...)])")


class SpawnWorker:
    """Not there: a task says itself that it runs in a child process."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise not_there("SpawnWorker", 'declare a task: @pgq.task(isolation="process"), or use Worker')
