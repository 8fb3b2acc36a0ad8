"""A workflow as a drawing or a document: Mermaid, DOT, JSON. Pure functions on what was read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal
from uuid import UUID

from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import shown
from pgqueue.model.jobs import JobStatus
from pgqueue.model.workflows import Workflow, WorkflowEdge, WorkflowJob

GraphFormat = Literal["mermaid", "dot", "json"]

_COLOURS: Final[Mapping[JobStatus, str]] = {
    JobStatus.SUCCEEDED: "#c6efce",
    JobStatus.FAILED: "#ffc7ce",
    JobStatus.CANCELLED: "#e7e6e6",
    JobStatus.EXPIRED: "#e7e6e6",
    JobStatus.RUNNING: "#cfe2ff",
}


def export(
    workflow: Workflow, jobs: Sequence[WorkflowJob], edges: Sequence[WorkflowEdge], form: GraphFormat
) -> str:
    """Return a workflow in a format."""
    return _FORMATS[form](workflow, jobs, edges)


def check_format(form: object) -> None:
    """Raise InvalidOptionError for what is no format."""
    if not isinstance(form, str) or form not in _FORMATS:
        raise InvalidOptionError(f"the format must be 'mermaid', 'dot' or 'json', got {shown(form)}")


def joins_of(jobs: Sequence[WorkflowJob], edges: Sequence[WorkflowEdge]) -> list[UUID]:
    """Return the ends of *edges* that are no jobs, in the order of their ids."""
    known = {job.id for job in jobs}
    return sorted({end for edge in edges for end in (edge.upstream, edge.downstream)} - known)


def mermaid(workflow: Workflow, jobs: Sequence[WorkflowJob], edges: Sequence[WorkflowEdge]) -> str:
    """Return a flowchart for Mermaid, which GitHub and many wikis draw."""
    names = _names(jobs, edges)
    lines = ["flowchart LR"]
    lines += [f'    {names[job.id]}["{_for_mermaid(job.task)}"]:::{job.status.value}' for job in jobs]
    lines += [f"    {names[join]}((join))" for join in joins_of(jobs, edges)]
    lines += [f"    {names[edge.upstream]} --> {names[edge.downstream]}" for edge in edges]
    used = {job.status for job in jobs}
    lines += [
        f"    classDef {status.value} fill:{_COLOURS.get(status, '#ffffff')}" for status in sorted(used)
    ]
    if workflow.name:
        lines = ["---", f"title: {json.dumps(workflow.name)}", "---", *lines]
    return "\n".join(lines) + "\n"


def dot(workflow: Workflow, jobs: Sequence[WorkflowJob], edges: Sequence[WorkflowEdge]) -> str:
    """Return a graph for Graphviz."""
    names = _names(jobs, edges)
    lines = [f"digraph {json.dumps(workflow.name or str(workflow.id))} {{", "    rankdir=LR;"]
    for job in jobs:
        colour = _COLOURS.get(job.status, "#ffffff")
        label = json.dumps(f"{job.task}\n{job.status.value}", ensure_ascii=False)
        lines.append(f'    {names[job.id]} [shape=box, style=filled, fillcolor="{colour}", label={label}];')
    lines += [f'    {names[join]} [shape=circle, label="join"];' for join in joins_of(jobs, edges)]
    lines += [f"    {names[edge.upstream]} -> {names[edge.downstream]};" for edge in edges]
    return "\n".join([*lines, "}"]) + "\n"


def as_json(workflow: Workflow, jobs: Sequence[WorkflowJob], edges: Sequence[WorkflowEdge]) -> str:
    """Return a document with the workflow, its jobs, joins and edges."""
    document = {
        "id": str(workflow.id),
        "name": workflow.name,
        "root": str(workflow.root),
        "status": workflow.status.value,
        "jobs": [
            {"id": str(job.id), "task": job.task, "status": job.status.value, "reason": job.reason}
            for job in jobs
        ],
        "joins": [str(join) for join in joins_of(jobs, edges)],
        "edges": [
            {"from": str(edge.upstream), "to": str(edge.downstream), "position": edge.position}
            for edge in edges
        ],
    }
    return json.dumps(document, ensure_ascii=False)


_Write = Callable[[Workflow, Sequence[WorkflowJob], Sequence[WorkflowEdge]], str]
_FORMATS: Final[Mapping[str, _Write]] = {"mermaid": mermaid, "dot": dot, "json": as_json}


def _names(jobs: Sequence[WorkflowJob], edges: Sequence[WorkflowEdge]) -> dict[UUID, str]:
    names = {job.id: f"j{number}" for number, job in enumerate(jobs)}
    return names | {join: f"g{number}" for number, join in enumerate(joins_of(jobs, edges))}


def _for_mermaid(text: str) -> str:
    """Return *text* as a label, in which nothing is markup."""
    return "".join(each if each.isalnum() or each in " _-." else f"#{ord(each)};" for each in text)
