"""JSON schemas of requests, which are pydantic models, and of responses, which are typed dictionaries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, TypeAdapter, with_config
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import is_typeddict

from pgqueue.model import documents
from pgqueue.web.api import outputs

REF: Final = "#/components/schemas/{model}"

Shape: TypeAlias = type[Any]
"""A pydantic model or a typed dictionary."""


class Schemas(GenerateJsonSchema):
    """Schemas without titles, which would repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # pydantic's signature
        """Never."""
        return False


def ref_to(shape: Shape) -> dict[str, Any]:
    """Return a schema that refers to that of *shape*."""
    return {"$ref": REF.format(model=shape.__name__)}


def schemas_of(shapes: Iterable[Shape]) -> dict[str, Any]:
    """Return the schemas of *shapes* and of what is in them, by name."""
    ordered = sorted(shapes, key=lambda shape: shape.__name__)
    _, document = TypeAdapter.json_schemas(
        [(shape.__name__, "validation", TypeAdapter(shape)) for shape in ordered],
        ref_template=REF,
        schema_generator=Schemas,
    )
    found: dict[str, Any] = document["$defs"]
    return found


def parameters_of(query: type[BaseModel]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schemas of the parameters of *query*, and those that they refer to, by name."""
    document = query.model_json_schema(ref_template=REF, schema_generator=Schemas)
    return document.get("properties", {}), document.get("$defs", {})


def _describe_by_docstrings() -> None:
    """Let pydantic read the types' docstrings as descriptions, and take their keys as the only ones.

    Here, because only this room knows pydantic. Responses are not validated by it: mypy checks the functions
    that make them, and tests what is sent.
    """
    for shape in {**vars(documents), **vars(outputs)}.values():
        if is_typeddict(shape):
            with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))(shape)
    # Some problems have members of their own, as RFC 9457 allows.
    with_config(ConfigDict(extra="allow", use_attribute_docstrings=True))(outputs.ProblemDocument)


_describe_by_docstrings()
