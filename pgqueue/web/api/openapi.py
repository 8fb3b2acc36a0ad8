"""`GET /openapi.json`: the API as an OpenAPI 3.1 document, made from its routes and OPERATIONS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from pgqueue import __version__
from pgqueue.model.checks import MAX_KEY_LENGTH, MAX_QUEUE_LENGTH
from pgqueue.model.limits import MAX_LIMIT_NAME
from pgqueue.schedules.definition import MAX_NAME
from pgqueue.web.api.inputs import NO_NUL, NoQuery
from pgqueue.web.api.operations import JSON, OPERATIONS, Operation, Response
from pgqueue.web.api.outputs import ProblemDocument
from pgqueue.web.api.schemas import Shape, parameters_of, ref_to, schemas_of
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import read_query
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings

PROBLEM: Final = "application/problem+json"
PATH_PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    "id": {"type": "string", "format": "uuid"},
    "queue": {"type": "string", "minLength": 1, "maxLength": MAX_QUEUE_LENGTH, "pattern": NO_NUL},
    "task": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": NO_NUL},
    "schedule": {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": NO_NUL},
    "limit": {"type": "string", "minLength": 1, "maxLength": MAX_LIMIT_NAME, "pattern": NO_NUL},
}
OF_BODIES: Final = {
    400: "The body ended early.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not application/json.",
}
OF_ALL: Final = {
    401: "Authentication is required.",
    403: "Not allowed.",
    503: "The database does not response.",
}


def routes(settings: WebSettings, access: Access) -> list[Route]:
    """Return the route of the document."""
    described: dict[str, Any] = {}

    async def openapi(request: Request) -> JSONResponse:
        await access.check(request, "read", "openapi")
        read_query(request, NoQuery)
        if not described:
            described.update(describe(request.app.routes, settings))
        servers = [{"url": request.scope.get("root_path", "") or "/"}]
        return JSONResponse({**described, "servers": servers}, headers=NO_STORE)

    return [Route("/openapi.json", openapi, name="openapi")]


def describe(routes: Iterable[BaseRoute], settings: WebSettings) -> dict[str, Any]:
    """Return the OpenAPI document of those routes that OPERATIONS names."""
    described = [
        (route, OPERATIONS[route.name])
        for route in routes
        if isinstance(route, Route) and route.name in OPERATIONS
    ]
    schemas = _schemas(operation for _, operation in described)
    paths: dict[str, dict[str, Any]] = {}
    for route, operation in described:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            of_path = paths.setdefault(route.path_format, {})
            of_path[method.lower()] = _operation(route, operation, settings)
    components: dict[str, Any] = {"schemas": schemas}
    if settings.token is not None:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": settings.name, "version": __version__, "summary": "Jobs, queues and workers."},
        "paths": paths,
        "components": components,
    }


def _operation(route: Route, operation: Operation, settings: WebSettings) -> dict[str, Any]:
    document: dict[str, Any] = {
        "operationId": route.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(operation), *_headers(operation)],
        "responses": {
            **{str(status): _response(response) for status, response in operation.responses.items()},
            **{str(status): _problem(why) for status, why in sorted(_problems(route, operation).items())},
        },
    }
    if operation.body is not None:
        required = any(each.is_required() for each in operation.body.model_fields.values())
        document["requestBody"] = {
            "required": required,
            "content": {JSON: {"schema": ref_to(operation.body)}},
        }
    if settings.token is not None:
        document["security"] = [] if operation.is_open else [{"token": []}]
    return document


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": PATH_PARAMETERS[name]}
        for name in route.param_convertors
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    schemas, _ = parameters_of(operation.query)
    return [
        {"name": name, "in": "query", "required": False, **_parameter(schema)}
        for name, schema in schemas.items()
    ]


def _parameter(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the parameter for a field's *schema*, without null: a query cannot say it."""
    description = schema.pop("description", None)
    choices = [each for each in schema.pop("anyOf", ()) if each != {"type": "null"}]
    if choices:
        schema.pop("default", None)
        [schema] = choices
    description = schema.pop("description", description)
    return {"schema": schema} if description is None else {"schema": schema, "description": description}


def _headers(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}
        for name, text in operation.headers.items()
    ]


def _response(response: Response) -> dict[str, Any]:
    document: dict[str, Any] = {"description": response.description}
    if response.media_type is not None:
        schema = {} if response.shape is None else ref_to(response.shape)
        document["content"] = {response.media_type: {"schema": schema}}
    if response.headers:
        document["headers"] = {
            name: {"description": says, "schema": {"type": "string"}}
            for name, says in response.headers.items()
        }
    return document


def _problem(why: str) -> dict[str, Any]:
    return {"description": why, "content": {PROBLEM: {"schema": ref_to(ProblemDocument)}}}


def _problems(route: Route, operation: Operation) -> dict[int, str]:
    """Return the causes of an operation's problems, by status."""
    problems = dict({} if operation.is_open else OF_ALL)
    if operation.body is not None:
        problems |= OF_BODIES
    if (
        operation.body is not None
        or operation.query.model_fields
        or route.param_convertors
        or not operation.is_open
    ):
        problems[422] = "The request is invalid."
    return {**problems, **operation.problems}


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the schemas that the *operations* refer to, by name."""
    shapes: set[Shape] = {ProblemDocument}
    of_queries: dict[str, Any] = {}
    for operation in operations:
        shapes |= {response.shape for response in operation.responses.values() if response.shape is not None}
        if operation.body is not None:
            shapes.add(operation.body)
        of_queries |= parameters_of(operation.query)[1]
    return {**of_queries, **schemas_of(shapes)}
