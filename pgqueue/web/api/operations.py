"""What the API can be asked for: an entry for each route, by its name. Path and method are the route's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel

from pgqueue.web.api import inputs, outputs

JSON = "application/json"
EVENTS = "text/event-stream"
TEXT = "text/plain"

LOCATION: Final = {"Location": "Where to look for it."}
RETRY_AFTER: Final = {"Retry-After": "Seconds after which to ask again."}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no problem."""

    description: str
    model: type[BaseModel] | None = None
    media_type: str | None = JSON
    """None: it has no content."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What they say, by name."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route does. What follows from its path and its inputs (422, 415, ...) is not said again."""

    summary: str
    answers: Mapping[int, Answer]
    problems: Mapping[int, str] = field(default_factory=dict)
    """Why, by status, besides those that every operation has."""
    query: type[BaseModel] = inputs.NoQuery
    body: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the request: what they say, by name. None has to be given."""
    is_open: bool = False
    """Whether it asks for no authentication."""


def _shows(model: type[BaseModel], description: str | None = None, **headers: str) -> dict[int, Answer]:
    return {200: Answer(description or str(model.__doc__), model, headers=headers)}


NO_JOB: Final = {
    404: "There is no such job, or it is somebody else's.",
    410: "It was removed long after its end.",
}
OVER: Final = {**NO_JOB, 409: "It is over."}
CANCELLED: Final = {
    200: Answer("It is cancelled.", outputs.JobDocument, headers=LOCATION),
    202: Answer("It runs, and was asked to stop.", outputs.JobDocument, headers={**LOCATION, **RETRY_AFTER}),
}
ETAG: Final = {"ETag": "Of what is shown."}
APPLIED: Final = {"Preference-Applied": "That the preferred wait was heard."}
UNCHANGED: Final = Answer("It is what the client has seen.", None, None, ETAG)
IF_CHANGED: Final = {"If-None-Match": "The ETag of what was seen last."}
PAGED: Final = {"Link": "The next page, as rel=next."}

OPERATIONS: Final[Mapping[str, Operation]] = {
    "jobs": Operation("List jobs", _shows(outputs.JobPage, **PAGED), query=inputs.JobQuery),
    "cancel_jobs": Operation("Cancel many jobs", _shows(outputs.CancelledJobs), body=inputs.JobsBody),
    "requeue_jobs": Operation("Requeue many jobs", _shows(outputs.RequeuedJobs), body=inputs.JobsBody),
    "submit_job": Operation(
        "Submit a job",
        {
            202: Answer(
                "It is durable, and will run.",
                outputs.SubmittedJob,
                headers={**LOCATION, **RETRY_AFTER, "Idempotency-Replayed": "Whether it existed already."},
            )
        },
        {
            400: "The Idempotency-Key is missing, or cannot be.",
            409: "The id is taken, or a submission with this Idempotency-Key is under way.",
        },
        body=inputs.SubmitBody,
        headers={"Idempotency-Key": "A text of your own; the same request with it makes no second job."},
    ),
    "job": Operation(
        "Show where a job stands",
        {
            200: Answer(
                str(outputs.JobDocument.__doc__),
                outputs.JobDocument,
                headers={**ETAG, **RETRY_AFTER, **APPLIED},
            ),
            202: Answer(
                "By the async protocol: it is not over.",
                outputs.JobDocument,
                headers={**LOCATION, **ETAG, **RETRY_AFTER},
            ),
            303: Answer("By the async protocol: it has succeeded.", None, None, LOCATION),
            304: UNCHANGED,
        },
        {**NO_JOB, 503: "Too many polls wait, or the database does not answer."},
        query=inputs.PollQuery,
        headers={**IF_CHANGED, "Prefer": "wait=SECONDS, as the parameter."},
    ),
    "job_result": Operation(
        "Get what a job returned",
        {
            200: Answer("The result alone.", headers=ETAG),
            202: Answer("By the async protocol: it is not over.", outputs.JobDocument, headers=LOCATION),
            204: Answer("It has succeeded, and no result was kept.", None, None),
            304: UNCHANGED,
        },
        {**NO_JOB, 409: "There is no result, or none yet."},
        headers=IF_CHANGED,
    ),
    "cancel_job": Operation("Cancel a job", CANCELLED, OVER, body=inputs.Because),
    "delete_job": Operation("Cancel a job", CANCELLED, OVER, body=inputs.Because),
    "job_events": Operation(
        "Watch a job",
        {
            200: Answer("An event `job` for each change, to the last; its data is the job.", None, EVENTS),
            204: Answer("The job is over, and the client has seen that.", None, None),
        },
        {**NO_JOB, 501: "There are no event streams here.", 503: "There are too many, or no database."},
        headers={"Last-Event-ID": "Of the last event that was seen."},
    ),
    "events": Operation(
        "Watch for changes of queues",
        {
            200: Answer(
                "An event `tick` whenever queues have changed, at most every two seconds.", None, EVENTS
            )
        },
        {501: "There are no event streams here.", 503: "There are too many, or no database."},
    ),
    "job_attempts": Operation("Show what went wrong", _shows(outputs.Attempts), NO_JOB),
    "job_actions": Operation("Show what operators did", _shows(outputs.Actions), NO_JOB),
    "requeue_job": Operation(
        "Requeue a job that is over",
        _shows(outputs.JobDocument),
        {**NO_JOB, 409: "It is not over."},
        body=inputs.Because,
    ),
    "reprioritise_job": Operation(
        "Give a waiting job another priority",
        _shows(outputs.JobDocument),
        {**NO_JOB, 409: "It does not wait."},
        body=inputs.PriorityBody,
    ),
    "dead_letters": Operation(
        "List dead letters", _shows(outputs.LetterPage, **PAGED), query=inputs.LetterQuery
    ),
    "dead_groups": Operation("Group dead letters by error", _shows(outputs.Groups), query=inputs.GroupQuery),
    "dead_letter": Operation(
        "Show a dead letter", _shows(outputs.LetterDetails), {404: "There is no such dead letter."}
    ),
    "redrive": Operation(
        "Make a dead letter pending again",
        _shows(outputs.JobDocument),
        {**NO_JOB, 409: "It is no dead letter."},
        body=inputs.RedriveBody,
    ),
    "discard": Operation(
        "Take a job out of the dead letters",
        _shows(outputs.JobDocument),
        {**NO_JOB, 409: "It is no dead letter."},
        body=inputs.Because,
    ),
    "redrive_many": Operation(
        "Begin to redrive many dead letters",
        {202: Answer("Workers carry it on.", outputs.RedriveDocument, headers={**LOCATION, **RETRY_AFTER})},
        body=inputs.MassRedriveBody,
    ),
    "discard_many": Operation(
        "Discard many dead letters", _shows(outputs.Discarded), body=inputs.DiscardBody
    ),
    "redrive_progress": Operation(
        "Show how far a mass redrive has come", _shows(outputs.RedriveDocument), {404: "There is none."}
    ),
    "cancel_redrive": Operation(
        "Stop a mass redrive",
        _shows(outputs.RedriveDocument),
        {404: "There is none.", 409: "It is over."},
        body=None,
    ),
    "queues": Operation("Measure the queues", _shows(outputs.Queues)),
    "queue": Operation("Measure a queue", _shows(outputs.QueueDocument), {404: "Nothing was ever in it."}),
    "pause_queue": Operation(
        "Let nothing of a queue start", _shows(outputs.QueueSetting), body=inputs.Because
    ),
    "resume_queue": Operation("Let a queue go on", _shows(outputs.QueueSetting), body=inputs.Because),
    "tasks": Operation("List tasks", _shows(outputs.Tasks)),
    "pause_task": Operation("Let nothing of a task start", _shows(outputs.TaskDocument), body=inputs.Because),
    "resume_task": Operation("Let a task go on", _shows(outputs.TaskDocument), body=inputs.Because),
    "configure_task": Operation(
        "Change how attempts of a task run", _shows(outputs.TaskDocument), body=inputs.TaskOptionsBody
    ),
    "workers": Operation("Show the workers", _shows(outputs.Workers), query=inputs.WorkerQuery),
    "metrics": Operation("Show metrics for Prometheus", {200: Answer("All metrics.", None, TEXT)}),
    "openapi": Operation("Describe this API", {200: Answer("An OpenAPI document.")}),
    "livez": Operation("Tell that this process lives", _shows(outputs.Health), is_open=True),
    "readyz": Operation(
        "Tell whether this process can do its work",
        _shows(outputs.Health),
        {503: "Why it cannot."},
        is_open=True,
    ),
}
