"""Makes reference/api.md: the classes that programs call, from their signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pgqueue import Batch, BatchItem, JobContext, JobHandle, Middleware, PgQueue, ReceivedJob, Task

PAGE = Path(__file__).parents[1] / "reference" / "api.md"
CLASSES = (PgQueue, Task, JobHandle, JobContext, Batch, BatchItem, ReceivedJob, Middleware)
MADE_BY_PGQUEUE = (Task, JobHandle, JobContext, BatchItem, ReceivedJob)
"""Classes that a program gets and never makes."""
INTERNAL = frozenset(
    {
        "attempt_runner",
        "beneath",
        "decode_result",
        "definition",
        "host",
        "registry",
        "shown_arguments",
        "shown_details",
    }
)
"""Names without an underscore that other parts of pgqueue need, and programs do not."""

HEAD = """# Python API

The classes that programs use. All of them are importable from `pgqueue`. Times without a unit are in seconds.
This page is made from the code by `python docs/generate`.
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(map(_class, CLASSES))


def _class(subject: type) -> str:
    text = f"\n## {subject.__name__}\n\n"
    if subject not in MADE_BY_PGQUEUE:
        text += _code(subject.__name__, inspect.signature(subject))
    text += f"{inspect.cleandoc(subject.__doc__ or '')}\n"
    members = dict(_members(subject))
    return text + "".join(members[name] for name in sorted(members))


def _members(subject: type) -> Iterator[tuple[str, str]]:
    """Yield the public members with their sections; what a class overrides comes after what it overrides."""
    for base in reversed(inspect.getmro(subject)):
        if not base.__module__.startswith("pgqueue."):
            continue
        for name, docstring in _attributes(base):
            yield name, f"\n### {subject.__name__}.{name}\n\n{docstring}\n"
        for name, member in vars(base).items():
            if not _is_public(name) or not inspect.getdoc(member):
                continue
            docstring = inspect.cleandoc(member.__doc__ or "")
            heading = f"\n### {subject.__name__}.{name}\n\n"
            if isinstance(member, property):
                yield name, f"{heading}A property. {docstring}\n"
            elif inspect.isfunction(member):
                prefix = "async " if inspect.iscoroutinefunction(member) else ""
                yield name, f"{heading}{_code(prefix + name, inspect.signature(member))}{docstring}\n"


def _is_public(name: str) -> bool:
    return (name == "__call__" or not name.startswith("_")) and name not in INTERNAL


def _attributes(subject: type) -> Iterator[tuple[str, str]]:
    """Yield the attributes that a constructor sets and describes, with their descriptions."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(subject)))
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or function.name != "__init__":
            continue
        for statement, following in zip(function.body, function.body[1:], strict=False):
            match statement, following:
                case (
                    ast.Assign(targets=[ast.Attribute(attr=name)])
                    | ast.AnnAssign(target=ast.Attribute(attr=name)),
                    ast.Expr(value=ast.Constant(value=str() as text)),
                ) if _is_public(name):
                    yield name, inspect.cleandoc(text)


def _code(name: str, signature: inspect.Signature) -> str:
    """Return a block of code with the call, a parameter a line where they are many."""
    parts: list[str] = []
    before: inspect.Parameter | None = None
    for each in signature.parameters.values():
        if each.name == "self":
            continue
        if before is not None and _is_positional(before) and not _is_positional(each):
            parts.append("/")
        is_named = each.kind is inspect.Parameter.KEYWORD_ONLY
        if is_named and (before is None or before.kind.value < inspect.Parameter.VAR_POSITIONAL.value):
            parts.append("*")
        parts.append(_parameter(each))
        before = each
    if before is not None and _is_positional(before):
        parts.append("/")
    returned = _annotation(signature.return_annotation)
    end = f" -> {returned}" if returned and returned != "None" else ""
    line = f"{name}({', '.join(parts)}){end}"
    if len(line) > 100:
        inside = "".join(f"    {part},\n" for part in parts)
        line = f"{name}(\n{inside}){end}"
    return f"```text\n{line}\n```\n\n"


def _is_positional(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.POSITIONAL_ONLY


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}
    text = stars.get(parameter.kind.name, "") + parameter.name
    annotation = _annotation(parameter.annotation)
    if annotation:
        text += f": {annotation}"
    if parameter.default is not inspect.Parameter.empty:
        text += f" = {_default(parameter.default)}"
    return text


def _annotation(annotation: object) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    return annotation if isinstance(annotation, str) else str(getattr(annotation, "__name__", annotation))


def _default(value: object) -> str:
    # The default that stands for "as before" is an object without a name of its own.
    return repr(value) if isinstance(value, (str, int, float, tuple, type(None))) else "..."


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
