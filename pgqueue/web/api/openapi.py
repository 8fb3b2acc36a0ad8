"""`GET /openapi.json`: the API as an OpenAPI 3.1 document, made of its routes and of OPERATIONS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from pgqueue import __version__
from pgqueue.model.checks import MAX_KEY_LENGTH, MAX_QUEUE_LENGTH
from pgqueue.web.api.inputs import NoQuery
from pgqueue.web.api.operations import JSON, OPERATIONS, Answer, Operation
from pgqueue.web.api.outputs import ProblemDocument
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import read_query
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings

PROBLEM: Final = "application/problem+json"
NO_NUL: Final = r"^[^\x00]*$"
PATH_PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    "id": {"type": "string", "format": "uuid"},
    "queue": {"type": "string", "minLength": 1, "maxLength": MAX_QUEUE_LENGTH, "pattern": NO_NUL},
    "task": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": NO_NUL},
}
OF_BODIES: Final = {
    400: "The body ended early.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not application/json.",
}
OF_ALL: Final = {
    401: "This needs a token.",
    403: "You may not.",
    503: "The database does not answer.",
}
REF: Final = "#/components/schemas/{model}"


class Schemas(GenerateJsonSchema):
    """Schemas without titles, which would repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # pydantic's signature
        """Never."""
        return False


def routes(settings: WebSettings, access: Access) -> list[Route]:
    """Return the route of the document."""
    described: dict[str, Any] = {}

    async def openapi(request: Request) -> Response:
        await access.check(request, "read", "openapi")
        read_query(request, NoQuery)
        if not described:
            described.update(describe(request.app.routes, settings))
        servers = [{"url": request.scope.get("root_path", "") or "/"}]
        return JSONResponse({**described, "servers": servers}, headers=NO_STORE)

    return [Route("/openapi.json", openapi, name="openapi")]


def describe(there_are: Iterable[BaseRoute], settings: WebSettings) -> dict[str, Any]:
    """Return the OpenAPI document of those routes that OPERATIONS names."""
    described = [
        (route, OPERATIONS[route.name])
        for route in there_are
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
            **{str(status): _answer(answer) for status, answer in operation.answers.items()},
            **{str(status): _problem(why) for status, why in sorted(_problems(route, operation).items())},
        },
    }
    if operation.body is not None:
        required = any(each.is_required() for each in operation.body.model_fields.values())
        document["requestBody"] = {
            "required": required,
            "content": {JSON: {"schema": {"$ref": REF.format(model=operation.body.__name__)}}},
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
    document = operation.query.model_json_schema(ref_template=REF, schema_generator=Schemas)
    return [
        {"name": name, "in": "query", "required": False, **_parameter(schema)}
        for name, schema in document.get("properties", {}).items()
    ]


def _parameter(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter of what a field takes; null is not to be had in a query."""
    description = schema.pop("description", None)
    choices = [each for each in schema.pop("anyOf", ()) if each != {"type": "null"}]
    if choices:
        schema.pop("default", None)
        [schema] = choices
    description = schema.pop("description", description)
    return {"schema": schema} if description is None else {"schema": schema, "description": description}


def _headers(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": says}
        for name, says in operation.headers.items()
    ]


def _answer(answer: Answer) -> dict[str, Any]:
    document: dict[str, Any] = {"description": answer.description}
    if answer.media_type is not None:
        schema = {} if answer.model is None else {"$ref": REF.format(model=answer.model.__name__)}
        document["content"] = {answer.media_type: {"schema": schema}}
    if answer.headers:
        document["headers"] = {
            name: {"description": says, "schema": {"type": "string"}} for name, says in answer.headers.items()
        }
    return document


def _problem(why: str) -> dict[str, Any]:
    schema = {"$ref": REF.format(model=ProblemDocument.__name__)}
    return {"description": why, "content": {PROBLEM: {"schema": schema}}}


def _problems(route: Route, operation: Operation) -> dict[int, str]:
    """Return why an operation is refused, by status."""
    problems = dict({} if operation.is_open else OF_ALL)
    if operation.body is not None:
        problems |= OF_BODIES
    if (
        operation.body is not None
        or operation.query.model_fields
        or route.param_convertors
        or not operation.is_open
    ):
        problems[422] = "Something of the request cannot be."
    return {**problems, **operation.problems}


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the schemas that the *operations* refer to, by name."""
    models: set[type[BaseModel]] = {ProblemDocument}
    schemas: dict[str, Any] = {}
    for operation in operations:
        models |= {answer.model for answer in operation.answers.values() if answer.model is not None}
        if operation.body is not None:
            models.add(operation.body)
        query = operation.query.model_json_schema(ref_template=REF, schema_generator=Schemas)
        schemas |= query.get("$defs", {})
    ordered = sorted(models, key=lambda model: model.__name__)
    _, document = models_json_schema(
        [(model, "validation") for model in ordered], ref_template=REF, schema_generator=Schemas
    )
    schemas |= document["$defs"]
    return schemas
