"""Makes reference/errors.md: the tree of errors, and what each class says of itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from pgqueue import errors

PAGE = Path(__file__).parents[1] / "reference" / "errors.md"

HEAD = """# Errors

Every error that pgqueue raises is in `pgqueue.errors`, and importable from `pgqueue` itself. On your own
connection asyncpg's errors pass through. This page is made from the code by `python docs/generate`.

"""


def page() -> str:
    """Return the page."""
    tree = "\n".join(_tree(errors.PgQueueError))
    apart = [each for each in _classes() if not issubclass(each, errors.PgQueueError)]
    lines = [HEAD, f"```text\n{tree}\n```\n"]
    for each in apart:
        base = each.__bases__[0]
        lines.append(
            f"\n`{each.__name__}` is not one of them but an `{base.__module__}.{base.__name__}`, because "
            "`except Exception` must not swallow it.\n".replace(".exceptions", "")
        )
    lines += [_section(each) for each in _classes()]
    return "".join(lines)


def _classes() -> list[type[BaseException]]:
    """Return the error classes in the order of their definition."""
    return [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, BaseException) and each.__module__ == errors.__name__
    ]


def _children(parent: type[BaseException]) -> list[type[BaseException]]:
    return [each for each in _classes() if parent in each.__bases__]


def _tree(root: type[BaseException], indent: str = "") -> Iterator[str]:
    """Draw the tree below *root*."""
    if not indent:
        yield root.__name__
    children = _children(root)
    for child in children:
        is_last = child is children[-1]
        yield f"{indent}{'└── ' if is_last else '├── '}{child.__name__}"
        below = indent + ("    " if is_last else "│   ")
        yield from _tree(child, below) if _children(child) else ()


def _section(error: type[BaseException]) -> str:
    bases = ", ".join(f"`{base.__name__}`" for base in error.__bases__)
    return f"\n## {error.__name__}\n\nA kind of {bases}.\n\n{inspect.cleandoc(error.__doc__ or '')}\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
