"""`/workflows`: lists, one workflow with its counts, its jobs, and its graph."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.model.documents import action_document
from pgqueue.model.jobs import JobStatus
from pgqueue.model.workflow_documents import member_document, workflow_document
from pgqueue.model.workflows import WorkflowDetails, WorkflowMember
from pgqueue.web.api.inputs import (
    GraphQuery,
    NoQuery,
    PollQuery,
    WorkflowNodeQuery,
    WorkflowQuery,
)
from pgqueue.web.api.outputs import (
    Actions,
    WorkflowNode,
    WorkflowNodes,
    WorkflowOverview,
    Workflows,
)
from pgqueue.web.http.etags import encode, matches
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.links import path_to
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import next_page, read_query
from pgqueue.web.live.long_poll import LongPolls, Subject
from pgqueue.web.live.workflow_changes import WorkflowChanges
from pgqueue.web.named_in_path import find_workflow
from pgqueue.web.security.access import Access

MEDIA_TYPES = {"json": "application/json", "mermaid": "text/plain", "dot": "text/vnd.graphviz"}


def routes(pgq: PgQueue, access: Access, long_polls: LongPolls, changes: WorkflowChanges) -> list[Route]:
    """Return the routes that show workflows."""
    polled: Subject[WorkflowDetails] = Subject(workflow_document, lambda each: each.is_over, changes.watch)

    async def list_workflows(request: Request) -> Response:
        await access.check(request, "read", "workflows")
        query = read_query(request, WorkflowQuery)
        page = await pgq.workflows(query.filter(), limit=query.limit, cursor=query.cursor)
        link, header = next_page(request, page.cursor)
        document: Workflows = {
            "workflows": [overview(request, each) for each in page.workflows],
            "cursor": page.cursor,
            "next": link,
            "is_cut_short": page.is_cut_short,
        }
        return JsonResponse(document, headers={**NO_STORE, **header})

    async def poll(request: Request) -> Response:
        found = await find_workflow(request, pgq, access, "read")
        read_query(request, PollQuery)
        found, applied = await long_polls.until_changed(request, found, polled, access.reader_of(request))
        # The version is that of the document without links: the same as an event's.
        version = encode(workflow_document(found))[1]
        headers = {**NO_STORE, "ETag": f'"{version}"', "Vary": "Authorization, Cookie, Prefer", **applied}
        if matches(request.headers.get("if-none-match", ""), version):
            return Response(status_code=304, headers=headers)
        return JsonResponse(overview(request, found), headers=headers)

    async def list_nodes(request: Request) -> Response:
        found = await find_workflow(request, pgq, access, "read")
        query = read_query(request, WorkflowNodeQuery)
        page = await pgq.workflow_jobs(found.id, status=query.status, limit=query.limit, cursor=query.cursor)
        link, header = next_page(request, page.cursor)
        document: WorkflowNodes = {
            "nodes": [node_overview(request, each) for each in page.jobs],
            "cursor": page.cursor,
            "next": link,
        }
        return JsonResponse(document, headers={**NO_STORE, **header})

    async def actions(request: Request) -> Response:
        found = await find_workflow(request, pgq, access, "read")
        read_query(request, NoQuery)
        done = await pgq.workflow_actions(found.id)
        document: Actions = {"actions": [action_document(each) for each in done]}
        return JsonResponse(document, headers=NO_STORE)

    async def graph(request: Request) -> Response:
        found = await find_workflow(request, pgq, access, "read")
        form = read_query(request, GraphQuery).format
        text = await pgq.draw_workflow(found.id, form)
        # A task may be called anything, also what UTF-8 cannot encode.
        return Response(text.encode("utf-8", "replace"), media_type=MEDIA_TYPES[form], headers=NO_STORE)

    return [
        Route("/workflows", list_workflows, name="workflows"),
        Route("/workflows/{id}", poll, name="workflow"),
        Route("/workflows/{id}/nodes", list_nodes, name="workflow_nodes"),
        Route("/workflows/{id}/actions", actions, name="workflow_actions"),
        Route("/workflows/{id}/graph", graph, name="workflow_graph"),
    ]


def overview(request: Request, workflow: WorkflowDetails) -> WorkflowOverview:
    """Return what the API shows of *workflow*."""
    has_result = workflow.status is JobStatus.SUCCEEDED and not workflow.is_group
    return {
        **workflow_document(workflow),
        "nodes_url": path_to(request, "workflow_nodes", id=str(workflow.id)),
        "result_url": path_to(request, "job_result", id=str(workflow.root)) if has_result else None,
    }


def node_overview(request: Request, job: WorkflowMember) -> WorkflowNode:
    """Return what the API shows of a job in a list of a workflow's."""
    return {
        **member_document(job),
        "poll_url": path_to(request, "job", id=str(job.id)),
        "result_url": path_to(request, "job_result", id=str(job.id)) if job.has_result else None,
    }
