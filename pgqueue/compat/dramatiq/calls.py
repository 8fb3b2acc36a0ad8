"""What of pgqueue messages become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID, uuid5

from pgqueue import Canvas, PgQueue, Signature, chain
from pgqueue.compat import not_there
from pgqueue.compat.dramatiq.headers import FEEDS, PLACE, header_of
from pgqueue.compat.dramatiq.message import Message, pipeline
from pgqueue.compat.dramatiq.options import milliseconds, pgqueue_options, pgqueue_priority, plain

NAMESPACE: Final = UUID("5f0e7a3c-5d0c-4a53-9a0e-0d4b6f3a8e21")
"""Of the ids of jobs whose messages have ids that are no UUIDs."""


class Calls:
    """The calls of the tasks that actors are."""

    def __init__(self, pgq: PgQueue, actors: Mapping[str, Any]) -> None:
        self._pgq = pgq
        self._actors = actors

    def alone(self, message: Message, delay: int | None) -> Signature[Any]:
        """Return the call of pgqueue that a message is, alone."""
        actor = self._actors.get(message.actor_name)
        args, kwargs = plain([message.args, message.kwargs])
        if actor is None:
            call = self._pgq.signature(message.actor_name, *args, **kwargs)
        else:
            call = actor.task.s(*args, **kwargs)
        options = self._options(message) | _start(message, delay)
        identity = {"id": job_id_of(message.message_id), "on_duplicate": "raise"}
        return _set(call, options | identity)

    def _options(self, message: Message) -> dict[str, Any]:
        options = pgqueue_options(message.options, is_message=True)
        headers = header_of(message.options)
        if _uuid(message.message_id) is None:
            options["key"] = message.message_id
        return options | {"queue": message.queue_name} | ({"headers": headers} if headers else {})

    def chain(self, whole: pipeline, delay: int | None) -> Canvas[Any]:
        """Return the chain that a pipeline is."""
        calls = []
        for place, message in enumerate(whole.messages):
            headers = {FEEDS: "1"} if place + 1 < len(whole.messages) else {}
            takes_result = place > 0 and not self._ignores(message)
            if takes_result and message.args:
                headers[PLACE] = str(len(message.args))
            if place and message.options.get("delay"):
                raise not_there(
                    "the delay of a message inside a pipeline",
                    "an async actor waits by `await current_job().sleep()`",
                )
            start = {} if place else _start(message, delay)
            calls.append(self.node(message, headers, takes_result=not place or takes_result, start=start))
        return chain(*calls)

    def node(
        self,
        message: Message,
        headers: Mapping[str, str] | None = None,
        *,
        takes_result: bool,
        start: Mapping[str, Any] | None = None,
    ) -> Signature[Any]:
        """Return the call that a message is as a part of a workflow.

        That is enqueued by the client's PgQueue, which declares no tasks: so it has all options with it.
        """
        actor = self._actors.get(message.actor_name)
        options = self._options(message)
        options["key"] = message.message_id
        options["headers"] = {**options.get("headers", {}), **(headers or {})}
        args, kwargs = plain([message.args, message.kwargs])
        if actor is None:
            call = self._pgq.signature(message.actor_name, *args, **kwargs)
        else:
            make = actor.task.s if takes_result else actor.task.si
            call = replace(make(*args, **kwargs), definition=None)
            options = {"priority": pgqueue_priority(actor.priority), **_expires(actor), **options}
        return _set(call, {**options, **(start or {})})

    def _ignores(self, message: Message) -> bool:
        actor = self._actors.get(message.actor_name)
        known = {} if actor is None else actor.options
        return bool(message.options.get("pipe_ignore", known.get("pipe_ignore", False)))


def job_id_of(message_id: str) -> UUID:
    """Return the id of the job of a message with this id, enqueued alone."""
    return _uuid(message_id) or uuid5(NAMESPACE, message_id)


def _uuid(message_id: str) -> UUID | None:
    try:
        return UUID(message_id)
    except ValueError:
        return None


def _set(call: Signature[Any], options: Mapping[str, Any]) -> Signature[Any]:
    """Return *call* with options, which are no callbacks, so that it stays a call."""
    changed = call.set(**options)
    assert isinstance(changed, Signature)
    return changed


def _start(message: Message, delay: int | None) -> dict[str, Any]:
    given = [milliseconds("delay", each) for each in (delay, message.options.get("delay")) if each]
    return {"delay": max(given)} if given else {}


def _expires(actor: Any) -> dict[str, Any]:
    max_age = actor.options.get("max_age")
    return {"expires": milliseconds("max_age", max_age)} if max_age else {}
