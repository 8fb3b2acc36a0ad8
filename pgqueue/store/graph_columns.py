"""A graph as the parameters of the statement that writes it. Knows no connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from pgqueue.store.base import id_list
from pgqueue.store.graph import Barrier, Graph
from pgqueue.store.values import Template

LEADS_ON: Final = 1
"""A trait of a job, which these are sums of: it has an edge to another node."""
TAKES_INPUTS: Final = 2
WAITS: Final = 4
CALLS_BACK: Final = 8
WEBHOOKS: Final = 64


def columns_of(
    graph: Graph, lane_ids: Mapping[tuple[str, int], int], stored: Callable[[str], str]
) -> tuple[str, ...]:
    """Return the parameters of submit_workflow. *stored* makes of a JSON document what the database takes."""
    templates = graph.templates
    if any(template.is_timed for template in templates.values()):
        graph = _without_timed_links(graph)
    number_of = {key: number for number, key in enumerate(templates, 1)}
    jobs = [(node.id, node.job) for node in graph.nodes if node.job is not None]
    ids = [node for node, _ in jobs] + [node.id for node in graph.nodes if node.job is None]
    # Most parts of a large workflow have jobs that wait for nothing, and nobody asks for their places.
    place_of = (
        {node: place for place, node in enumerate(ids, 1)}
        if graph.edges or graph.barriers or graph.callbacks or graph.root is not None
        else {}
    )
    ups, downs, positions, directs = zip(*graph.edges, strict=True) if graph.edges else ((), (), (), ())
    # Those that lead to one node follow each other, and the hash of an id takes longer than all the rest.
    places: list[int] = []
    previous = None
    for node in downs:
        if node is not previous:
            previous, place = node, place_of[node]
        places.append(place)
    gates = {str(node): job.gates for node, job in jobs if job.gates}
    return (
        json.dumps(
            {
                "id": str(graph.workflow_id),
                "root": graph.root and place_of[graph.root],
                "name": graph.name,
                "parent_job": graph.parent_job and str(graph.parent_job),
                "waits_for_others": graph.waits_for_others,
                **({"gates": gates} if gates else {}),
            }
        ),
        id_list(ids),
        stored(f"[{','.join([job.document for _, job in jobs])}]"),
        _list([number_of[id(job.template)] for _, job in jobs]),
        _list(_traits(graph, len(jobs), place_of, places)),
        json.dumps([_template(template, lane_ids.get(template.lane)) for template in templates.values()]),
        json.dumps([_barrier(barrier, place_of[barrier.id]) for barrier in graph.barriers]),
        id_list(ups),
        _list(places),
        _list(positions),
        f"{{{','.join(['t' if direct else 'f' for direct in directs])}}}",
        json.dumps(
            [
                {
                    "node": place_of[callback.node_id],
                    "number": callback.number,
                    "on_end": callback.on,
                    "takes_inputs": callback.takes_inputs,
                    "template": number_of[id(callback.job.template)],
                    "arguments": stored(callback.job.document),
                }
                for callback in graph.callbacks
            ]
        ),
    )


def _traits(graph: Graph, jobs: int, place_of: Mapping[UUID, int], downs: Iterable[int]) -> Sequence[int]:
    """Return the traits of the *jobs* at the first places."""
    traits = [LEADS_ON] * len(graph.nodes)
    for place in set(downs):
        traits[place - 1] += WAITS
    for node in {each.node_id for each in graph.callbacks}:
        traits[place_of[node] - 1] += CALLS_BACK
    told = {key for key, template in graph.templates.items() if template.has_webhooks}
    if told:
        for each in graph.nodes:
            if each.job is not None and id(each.job.template) in told:
                traits[place_of[each.id] - 1] += WEBHOOKS
    for node in [each.id for each in graph.nodes if each.takes_inputs]:
        traits[place_of[node] - 1] += TAKES_INPUTS
    if graph.root is not None:
        traits[place_of[graph.root] - 1] -= LEADS_ON
    return traits[:jobs]


def _list(numbers: Iterable[int]) -> str:
    return f"{{{','.join(map(str, numbers))}}}"


def _without_timed_links(graph: Graph) -> Graph:
    """Give links that have a time a barrier: a link moves on without a look at the clock."""
    timed = {node.id for node in graph.nodes if node.job is not None and node.job.template.is_timed}
    links = {edge.downstream for edge in graph.edges if edge.direct} & timed
    if not links:
        return graph
    return replace(
        graph,
        edges=[edge._replace(direct=False) if edge.downstream in links else edge for edge in graph.edges],
        barriers=[*graph.barriers, *(Barrier(link, is_join=False, total=1) for link in sorted(links))],
    )


def _barrier(barrier: Barrier, place: int) -> dict[str, Any]:
    return {
        "node": place,
        "needs": barrier.needs,
        "runs_anyway": barrier.runs_anyway,
        "fail_fast": barrier.fail_fast,
    }


def _template(template: Template, lane_id: int | None) -> dict[str, Any]:
    return {
        "queue": template.lane[0],
        "priority": template.lane[1],
        "task": template.task,
        "run_at": template.run_at and template.run_at.isoformat(),
        "delay": template.delay,
        "expires_at": template.expires_at and template.expires_at.isoformat(),
        "expires_after": template.expires_after,
        "options": template.options,
        "headers": template.headers,
        "tags": template.tags,
        "key": template.key,
        "lane": lane_id,
    }
