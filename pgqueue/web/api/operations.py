"""What the API offers: an entry for each route, by its name. Path and method are the route's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel

from pgqueue.model import documents
from pgqueue.model.limit_documents import LimitDocument
from pgqueue.model.ordered_documents import OrderedGroupDocument
from pgqueue.model.schedule_documents import ScheduleDocument
from pgqueue.web.api import inputs, limit_inputs, ordered_inputs, outputs, schedule_inputs
from pgqueue.web.api.schemas import Shape

JSON = "application/json"
EVENTS = "text/event-stream"
TEXT = "text/plain"

LOCATION: Final = {"Location": "Path of the job, redrive or bulk operation."}
RETRY_AFTER: Final = {"Retry-After": "Seconds after which to ask again."}


@dataclass(frozen=True, slots=True)
class Response:
    """A response that is not a problem."""

    description: str
    shape: Shape | None = None
    media_type: str | None = JSON
    """None: it has no content."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Their descriptions, by name."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route does. What follows from its path and its inputs (422, 415, ...) is not repeated here."""

    summary: str
    responses: Mapping[int, Response]
    problems: Mapping[int, str] = field(default_factory=dict)
    """Their causes by status, besides those that every operation has."""
    query: type[BaseModel] = inputs.NoQuery
    body: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Descriptions of the request's headers, by name. All are optional."""
    is_open: bool = False
    """Whether it needs no authentication."""


def _shows(shape: Shape, description: str | None = None, **headers: str) -> dict[int, Response]:
    return {200: Response(description or str(shape.__doc__), shape, headers=headers)}


NO_JOB: Final = {
    404: "There is no such job, or the requester does not own it.",
    410: "The job was removed after retention, with all others from its day.",
}
NO_WORKFLOW: Final = {404: "There is no such workflow."}
NO_SCHEDULE: Final = {404: "There is no such schedule."}
NO_LIMIT: Final = {404: "There is no such limit."}
ENDED: Final = {**NO_JOB, 409: "The job has already ended."}
NO_STREAM: Final = {501: "Event streams are not installed.", 503: "Too many streams, or no database."}
CANCELLED: Final = {
    200: Response("The job was cancelled.", documents.JobDocument, headers=LOCATION),
    202: Response(
        "The job is running and was asked to stop.",
        documents.JobDocument,
        headers={**LOCATION, **RETRY_AFTER},
    ),
}
ETAG: Final = {"ETag": "Version of the response."}
APPLIED: Final = {"Preference-Applied": "The preferred wait, if it was applied."}
UNCHANGED: Final = Response("The client already has this version.", None, None, ETAG)
IF_CHANGED: Final = {"If-None-Match": "The ETag that the client has."}
PAGED: Final = {"Link": "The next page, as rel=next."}

OPERATIONS: Final[Mapping[str, Operation]] = {
    "jobs": Operation("List jobs", _shows(outputs.JobPage, **PAGED), query=inputs.JobQuery),
    "job_counts": Operation(
        "Count the jobs of each status, up to a bound", _shows(outputs.JobCounts), query=inputs.CountQuery
    ),
    "cancel_jobs": Operation("Cancel many jobs", _shows(outputs.CancelledJobs), body=inputs.JobsBody),
    "requeue_jobs": Operation("Requeue many jobs", _shows(outputs.RequeuedJobs), body=inputs.JobsBody),
    "submit_job": Operation(
        "Submit a job",
        {
            202: Response(
                "The job is stored and will run.",
                outputs.SubmittedJob,
                headers={**LOCATION, **RETRY_AFTER, "Idempotency-Replayed": "Whether it existed already."},
            )
        },
        {
            400: "The Idempotency-Key is missing or invalid.",
            409: "The id is taken, or a submission with this Idempotency-Key is in progress.",
        },
        body=inputs.SubmitBody,
        headers={
            "Idempotency-Key": "A unique string of your choice; repeating the request with it does not "
            "create another job."
        },
    ),
    "job": Operation(
        "Get a job",
        {
            200: Response(
                str(documents.JobDocument.__doc__),
                documents.JobDocument,
                headers={**ETAG, **RETRY_AFTER, **APPLIED},
            ),
            202: Response(
                "With the async protocol: the job has not ended.",
                documents.JobDocument,
                headers={**LOCATION, **ETAG, **RETRY_AFTER},
            ),
            303: Response("With the async protocol: the job has succeeded.", None, None, LOCATION),
            304: UNCHANGED,
        },
        {**NO_JOB, 503: "Too many waiting polls, or the database is unavailable."},
        query=inputs.PollQuery,
        headers={**IF_CHANGED, "Prefer": "wait=SECONDS, as the query parameter."},
    ),
    "job_result": Operation(
        "Get a job's result",
        {
            200: Response("The result alone.", headers=ETAG),
            202: Response(
                "With the async protocol: the job has not ended.", documents.JobDocument, headers=LOCATION
            ),
            204: Response("The job has succeeded, and no result was stored.", None, None),
            304: UNCHANGED,
        },
        {**NO_JOB, 409: "There is no result, or not yet."},
        headers=IF_CHANGED,
    ),
    "cancel_job": Operation("Cancel a job", CANCELLED, ENDED, body=inputs.Because),
    "delete_job": Operation("Cancel a job", CANCELLED, ENDED, body=inputs.Because),
    "send_event": Operation(
        "Send an event to a job",
        {
            202: Response("The event is stored for the job.", outputs.SentEvent),
            200: Response("It was sent before.", outputs.SentEvent),
        },
        ENDED,
        body=inputs.EventBody,
    ),
    "job_events": Operation(
        "Watch a job",
        {
            200: Response(
                "An event `job` for each change until the job ends; its data is the job.", None, EVENTS
            ),
            204: Response("The job has ended, and the client has seen its last event.", None, None),
        },
        {**NO_JOB, **NO_STREAM},
        headers={"Last-Event-ID": "Id of the last event seen."},
    ),
    "events": Operation(
        "Watch queues",
        {
            200: Response(
                "An event `tick` whenever queues have changed, at most every two seconds.", None, EVENTS
            )
        },
        NO_STREAM,
    ),
    "job_wait": Operation("Get what a job waits for, as a sentence", _shows(outputs.JobWait), NO_JOB),
    "job_attempts": Operation("List a job's unsuccessful attempts", _shows(outputs.Attempts), NO_JOB),
    "job_actions": Operation("List operator actions on a job", _shows(outputs.Actions), NO_JOB),
    "requeue_job": Operation(
        "Requeue a job that has ended",
        _shows(documents.JobDocument),
        {**NO_JOB, 409: "The job has not ended."},
        body=inputs.Because,
    ),
    "run_job": Operation(
        "Run a scheduled job now",
        _shows(documents.JobDocument),
        {**NO_JOB, 409: "The job is blocked or has ended."},
        body=inputs.Because,
    ),
    "edit_job": Operation(
        "Change the queue, priority, run time or arguments of a waiting job",
        _shows(documents.JobDocument),
        {**NO_JOB, 409: "The job is not waiting."},
        body=inputs.EditBody,
    ),
    "reprioritise_job": Operation(
        "Change the priority of a waiting job",
        _shows(documents.JobDocument),
        {**NO_JOB, 409: "The job is not waiting."},
        body=inputs.PriorityBody,
    ),
    "dead_letters": Operation(
        "List dead letters", _shows(outputs.LetterPage, **PAGED), query=inputs.LetterQuery
    ),
    "dead_groups": Operation("Group dead letters by error", _shows(outputs.Groups), query=inputs.GroupQuery),
    "dead_letter": Operation(
        "Get a dead letter", _shows(documents.LetterDetails), {404: "There is no such dead letter."}
    ),
    "redrive": Operation(
        "Redrive a dead letter",
        _shows(documents.JobDocument),
        {**NO_JOB, 409: "The job is not a dead letter."},
        body=inputs.RedriveBody,
    ),
    "discard": Operation(
        "Discard a dead letter",
        _shows(documents.JobDocument),
        {**NO_JOB, 409: "The job is not a dead letter."},
        body=inputs.Because,
    ),
    "redrive_many": Operation(
        "Start to redrive many dead letters",
        {
            202: Response(
                "Workers redrive them in the background.",
                documents.RedriveDocument,
                headers={**LOCATION, **RETRY_AFTER},
            )
        },
        body=inputs.MassRedriveBody,
    ),
    "discard_many": Operation(
        "Discard many dead letters", _shows(outputs.Discarded), body=inputs.DiscardBody
    ),
    "begin_bulk": Operation(
        "Start to cancel, requeue or discard many jobs",
        {
            202: Response(
                "Workers do it in the background.",
                documents.BulkDocument,
                headers={**LOCATION, **RETRY_AFTER},
            )
        },
        body=inputs.BulkBody,
    ),
    "bulk_progress": Operation(
        "Get the progress of a bulk operation",
        _shows(documents.BulkDocument),
        {404: "There is no such bulk operation."},
    ),
    "cancel_bulk": Operation(
        "Stop a bulk operation",
        _shows(documents.BulkDocument),
        {404: "There is no such bulk operation.", 409: "The bulk operation has already ended."},
    ),
    "redrive_progress": Operation(
        "Get the progress of a mass redrive",
        _shows(documents.RedriveDocument),
        {404: "There is no such redrive."},
    ),
    "cancel_redrive": Operation(
        "Stop a mass redrive",
        _shows(documents.RedriveDocument),
        {404: "There is no such redrive.", 409: "The redrive has already ended."},
    ),
    "queues": Operation("List queues", _shows(outputs.Queues)),
    "queue": Operation(
        "Get a queue", _shows(documents.QueueDocument), {404: "No job was ever enqueued into it."}
    ),
    "pause_queue": Operation("Pause a queue", _shows(outputs.QueueSetting), body=inputs.Because),
    "resume_queue": Operation("Resume a queue", _shows(outputs.QueueSetting), body=inputs.Because),
    "remove_queue": Operation(
        "Remove a queue without jobs that have not ended",
        {204: Response("The queue was removed. It comes back with the next job.", None, None)},
        {404: "There is no such queue.", 409: "The queue has jobs that have not ended."},
    ),
    "tasks": Operation("List tasks", _shows(outputs.Tasks)),
    "pause_task": Operation("Pause a task", _shows(documents.TaskDocument), body=inputs.Because),
    "resume_task": Operation("Resume a task", _shows(documents.TaskDocument), body=inputs.Because),
    "configure_task": Operation(
        "Change a task's options at run time", _shows(documents.TaskDocument), body=inputs.TaskOptionsBody
    ),
    "workers": Operation("List workers", _shows(outputs.Workers), query=inputs.WorkerQuery),
    "workflows": Operation("List workflows", _shows(outputs.Workflows, **PAGED), query=inputs.WorkflowQuery),
    "workflow": Operation(
        "Get a workflow",
        {**_shows(outputs.WorkflowOverview, None, **ETAG, **APPLIED), 304: UNCHANGED},
        {**NO_WORKFLOW, 503: "Too many waiting polls, or the database is unavailable."},
        query=inputs.PollQuery,
        headers={**IF_CHANGED, "Prefer": "wait=SECONDS, as the query parameter."},
    ),
    "workflow_events": Operation(
        "Watch a workflow",
        {
            200: Response(
                "An event `workflow` for each change until all jobs have ended; its data is the workflow.",
                None,
                EVENTS,
            ),
            204: Response("It has ended, and the client has seen its last event.", None, None),
        },
        {**NO_WORKFLOW, **NO_STREAM},
        headers={"Last-Event-ID": "Id of the last event seen."},
    ),
    "workflow_nodes": Operation(
        "List the jobs of a workflow",
        _shows(outputs.WorkflowNodes, **PAGED),
        NO_WORKFLOW,
        query=inputs.WorkflowNodeQuery,
    ),
    "workflow_graph": Operation(
        "Draw a workflow",
        {200: Response("Its jobs, and who waits for whom: as JSON, or as text in another format.")},
        NO_WORKFLOW,
        query=inputs.GraphQuery,
    ),
    "cancel_workflow": Operation(
        "Cancel a workflow's jobs that have not ended",
        _shows(outputs.ChangedWorkflow),
        NO_WORKFLOW,
        body=inputs.Because,
    ),
    "retry_workflow": Operation(
        "Redrive a workflow's failed jobs; what was cancelled because of them waits again",
        _shows(outputs.ChangedWorkflow),
        NO_WORKFLOW,
        body=inputs.Because,
    ),
    "pause_workflow": Operation(
        "Pause a workflow: nothing that waits in it becomes ready",
        _shows(outputs.WorkflowOverview),
        NO_WORKFLOW,
        body=inputs.Because,
    ),
    "resume_workflow": Operation(
        "Let a paused workflow go on", _shows(outputs.WorkflowOverview), NO_WORKFLOW, body=inputs.Because
    ),
    "workflow_actions": Operation(
        "List when a workflow was paused and resumed", _shows(outputs.Actions), NO_WORKFLOW
    ),
    "schedules": Operation(
        "List schedules", _shows(outputs.Schedules, **PAGED), query=schedule_inputs.ScheduleListQuery
    ),
    "create_schedule": Operation(
        "Make a schedule",
        {201: Response("The schedule ticks from now on.", ScheduleDocument, headers=LOCATION)},
        {409: "A schedule of this name exists already."},
        body=schedule_inputs.ScheduleBody,
    ),
    "schedule": Operation(
        "Get a schedule, with its next ticks and its latest",
        _shows(outputs.ScheduleDetails),
        NO_SCHEDULE,
        query=schedule_inputs.ScheduleQuery,
    ),
    "edit_schedule": Operation(
        "Change a schedule; from then on deploys do not change it",
        _shows(ScheduleDocument),
        NO_SCHEDULE,
        body=schedule_inputs.ScheduleChanges,
    ),
    "pause_schedule": Operation(
        "Pause a schedule: it does not tick until it is resumed",
        _shows(ScheduleDocument),
        NO_SCHEDULE,
        body=inputs.Because,
    ),
    "resume_schedule": Operation(
        "Resume a schedule at its next tick", _shows(ScheduleDocument), NO_SCHEDULE, body=inputs.Because
    ),
    "run_schedule": Operation(
        "Have a schedule tick now as well", _shows(outputs.RunSchedule), NO_SCHEDULE, body=inputs.Because
    ),
    "delete_schedule": Operation(
        "Remove a schedule and its history; its jobs stay",
        {204: Response("The schedule was removed. One that code declares comes back.", None, None)},
        NO_SCHEDULE,
        body=inputs.Because,
    ),
    "limits": Operation("List limits", _shows(outputs.Limits, **PAGED), query=limit_inputs.LimitListQuery),
    "limit": Operation(
        "Get a limit, with the keys that most jobs wait for, and all keys by page",
        _shows(outputs.LimitDetails, **PAGED),
        NO_LIMIT,
        query=limit_inputs.LimitQuery,
    ),
    "change_limit": Operation(
        "Change a limit; from then on it stays as it is set, whatever code declares",
        _shows(LimitDocument),
        body=limit_inputs.LimitBody,
    ),
    "reset_limit": Operation(
        "Return a limit to what code declared first",
        {204: Response("It is as declared. One that no code has declared is removed.", None, None)},
        NO_LIMIT,
        body=inputs.Because,
    ),
    "limiters": Operation(
        "List the limiters that running jobs hold or wait for, those that most wait for first",
        _shows(outputs.Limiters),
        query=limit_inputs.LimiterQuery,
    ),
    "ordered_groups": Operation("List ordered groups", _shows(outputs.OrderedGroups)),
    "change_ordered_group": Operation(
        "Change what becomes of the jobs behind one that fails",
        _shows(OrderedGroupDocument),
        body=ordered_inputs.OnDeadBody,
    ),
    "stopped_keys": Operation(
        "List keys of ordered groups that stand still, each with the job that stops it",
        _shows(outputs.StoppedKeys),
        query=ordered_inputs.StoppedQuery,
    ),
    "resume_key": Operation(
        "Let a key go on past the jobs that stop it",
        _shows(outputs.ResumedKey),
        body=ordered_inputs.ResumeBody,
    ),
    "metrics": Operation("Get metrics for Prometheus", {200: Response("All metrics.", None, TEXT)}),
    "openapi": Operation("Describe this API", {200: Response("An OpenAPI document.")}),
    "livez": Operation("Check that this process is alive", _shows(outputs.Health), is_open=True),
    "readyz": Operation(
        "Check that this process is ready to work",
        _shows(outputs.Health),
        {503: "Why it is not ready."},
        is_open=True,
    ),
}
