"""Enqueueing by a form that is made from a task's types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import InvalidArgumentsError, PgQueueError
from pgqueue.options.levels import DEFAULTS, NO_OPTIONS, read_options
from pgqueue.options.table import Level
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.web.calls import call_of, hiding_secrets, key_scope_of, stamps_of
from pgqueue.web.http.bodies import parse_json
from pgqueue.web.http.problems import ProblemError, argument_errors
from pgqueue.web.pages.enqueue_fields import Field, arguments_of, fields_of
from pgqueue.web.pages.errors import explain
from pgqueue.web.pages.forms import decimal_in, number_in, read_form
from pgqueue.web.pages.page import Pages

OPTIONS = ("queue", "priority", "delay", "key")


@dataclass(frozen=True, slots=True)
class Draft:
    """What is in the form, as it was typed, and what is wrong with it."""

    given: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    """By field; "": with the whole."""


def routes(pages: Pages) -> list[Route]:
    """Return the routes of the page and of its form."""
    own = EnqueuePage(pages)
    return [
        Route("/enqueue", own.show),
        Route("/enqueue", own.enqueue, methods=["POST"]),
    ]


class EnqueuePage:
    """The form of a call."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def show(self, request: Request) -> Response:
        """Show the tasks that this process declares, or the form of one."""
        await self._pages.access.check(request, "enqueue", "jobs")
        name = request.query_params.get("task", "")
        if not name:
            return self._form(request, None, Draft())
        return self._form(request, await self._definition(request, name), Draft())

    async def enqueue(self, request: Request) -> Response:
        """Enqueue the call, or show the form again with what is wrong beside its fields."""
        await self._pages.access.check(request, "enqueue", "jobs")
        settings = self._pages.settings
        form = await read_form(request, settings, limit=settings.body_limit)
        definition = await self._definition(request, form.get("task", ""))
        fields = _fields(definition)
        wrong: dict[str, str] = {}
        arguments: dict[str, Any] | list[Any]
        try:
            if fields is None:
                arguments = _whole(form)
            else:
                arguments, wrong = arguments_of(fields, form)
            if wrong:
                return self._form(request, definition, Draft(form, wrong), 422)
            job_id = await self._enqueue(request, definition, arguments, form)
        except ProblemError as error:
            wrong = _by_field(error.members["errors"], fields)
            return self._form(request, definition, Draft(form, wrong), 422)
        except InvalidArgumentsError as error:
            wrong = _by_field(argument_errors(error, names_extra=True), fields)
            return self._form(request, definition, Draft(form, wrong), 422)
        except (HTTPException, PgQueueError) as error:
            status, detail = explain(error)
            if status not in (409, 413, 422, 429):
                raise
            return self._form(request, definition, Draft(form, {"": detail}), status)
        return self._pages.go(request, f"/jobs/{job_id}?done=enqueued")

    async def _definition(self, request: Request, task: str) -> TaskDefinition:
        """Return the task, if *request* may enqueue it and this process declares it. Raises HTTPException."""
        await self._pages.access.check(request, "enqueue", f"task:{task}")
        definition = self._pages.pgq.registry.get(task)
        if definition is None:
            raise HTTPException(
                422, f"this service declares no task {task[:200]!r}; its jobs cannot be made here"
            )
        return definition

    async def _enqueue(
        self,
        request: Request,
        definition: TaskDefinition,
        arguments: dict[str, Any] | list[Any],
        form: Mapping[str, str],
    ) -> str:
        pages, task = self._pages, definition.name
        options = _options(form)
        for kind in ("queue", "priority"):
            if kind in options:
                await pages.access.check(request, "enqueue", f"{kind}:{options[kind]}")
        once = form.get("form", "")
        call = read_options(f"task {task!r}", options, Level.CALL)
        resolved = pages.pgq.registry.resolve(task, definition, call)
        if once and resolved["idempotency_key"] is None:
            # A form that is sent twice makes one job.
            options |= {
                "idempotency_key": once,
                "idempotency_scope": pages.access.key_scope(request),
                "idempotency_window": DEFAULTS["idempotency_window"],
                "idempotency_while": "window",
                "on_conflict": "return",
            }
        elif pages.access.has_owners:
            scope = key_scope_of(task, resolved)
            options["idempotency_scope"] = pages.access.task_key_scope(request, scope)
        stamps = stamps_of(request, pages.settings, pages.access)
        signature = call_of(pages.pgq, task, definition, arguments, options, stamps)
        with hiding_secrets(pages.pgq, signature):
            return str((await pages.pgq.enqueue(signature)).id)

    def _form(
        self, request: Request, definition: TaskDefinition | None, draft: Draft, status: int = 200
    ) -> Response:
        pgq = self._pages.pgq
        fields = None if definition is None else _fields(definition)
        return self._pages.render(
            request,
            "enqueue.html",
            section="jobs",
            is_top=False,
            status=status,
            tasks=sorted(pgq.registry.names),
            queues=sorted(pgq.registry.queues),
            task=None if definition is None else definition.name,
            fields=fields,
            given=draft.given,
            wrong=draft.wrong,
            form_id=draft.given.get("form") or str(uuid4()),
            usual_queue=None
            if definition is None
            else pgq.registry.resolve(definition.name, definition, NO_OPTIONS)["queue"],
        )


def _fields(definition: TaskDefinition) -> Sequence[Field] | None:
    """Return the fields of its parameters; None: its arguments are one JSON text."""
    schema = definition.arguments.json_schema
    return None if schema is None else fields_of(schema, definition.arguments.defaults)


def _options(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of the job. Raises HTTPException 422."""
    options: dict[str, Any] = {}
    if form.get("queue"):
        options["queue"] = form["queue"]
    if form.get("priority"):
        options["priority"] = number_in(form, "priority")
    if form.get("delay"):
        options["delay"] = decimal_in(form, "delay")
    if form.get("key"):
        options["key"] = form["key"]
    return options


def _whole(form: Mapping[str, str]) -> dict[str, Any] | list[Any]:
    """Return the arguments that were typed as one JSON text. Raises HTTPException 422."""
    text = form.get("arguments", "").strip() or "{}"
    arguments = parse_json(text.encode("utf-8", "surrogatepass"), "the text of the arguments")
    if not isinstance(arguments, dict | list):
        raise HTTPException(422, "the arguments must be a JSON object by name, or an array by position")
    return arguments


def _by_field(errors: Sequence[Mapping[str, str]], fields: Sequence[Field] | None) -> dict[str, str]:
    """Return what is wrong by field; what is of none is of the whole form."""
    names = {each.name for each in fields or ()}
    wrong: dict[str, str] = {}
    for error in errors:
        _, name, *inside = [*error["field"].split("."), ""]
        where = name if name in names else ""
        place = ".".join(each for each in inside if each)
        text = f"{place}: {error['message']}" if place and where else error["message"]
        wrong[where] = f"{wrong[where]}; {text}" if where in wrong else text
    return wrong
