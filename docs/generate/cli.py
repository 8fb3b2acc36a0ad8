"""Makes reference/cli.md: every command with its usage, arguments and options, from its function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints
from uuid import UUID

import typer
from typer.models import ArgumentInfo, OptionInfo

from pgqueue.cli import app

PAGE = Path(__file__).parents[1] / "reference" / "cli.md"

HEAD = """# Command line

`pip install 'pgqueue-asyncio[cli]'` installs the command `pgqueue`.
`pgqueue COMMAND --help` shows the same texts. This page is made from the code by `python docs/generate`.

Commands exit with 0 after success, 1 after an error, which is one line on stderr, 2 after wrong usage, and
130 when interrupted. If the codes of a command mean more than that, its section lists them.
"""

METAVARS = {int: "INTEGER", float: "NUMBER", str: "TEXT", UUID: "UUID", datetime: "TIME", Path: "PATH"}


class Parameter(NamedTuple):
    """An argument or option of a command, as its function declares it."""

    name: str
    kind: Any
    """The type of one value."""
    info: ArgumentInfo | OptionInfo
    default: object

    @property
    def choices(self) -> list[str]:
        """The values to choose from, if it takes no others."""
        is_choice = isinstance(self.kind, type) and issubclass(self.kind, Enum)
        return [str(each.value) for each in self.kind] if is_choice else []

    @property
    def metavar(self) -> str:
        """What stands for its value in the usage line."""
        if self.info.metavar:
            return str(self.info.metavar)
        if self.choices:
            return self.name.rpartition("_")[2].upper()
        if isinstance(self.info, ArgumentInfo):
            return f"[{self.name.upper()}]"
        return METAVARS[self.kind]

    @property
    def spelling(self) -> str:
        """The flag, or the option with its value, as on the command line."""
        dashed = self.name.replace("_", "-")
        # Inside Annotated the first positional argument of typer.Option, its default, is a name too.
        given = [self.info.default, *(self.info.param_decls or ())]
        names = [each for each in given if isinstance(each, str) and each.startswith("-")]
        if self.kind is bool:
            return ", ".join(names or [f"--{dashed}/--no-{dashed}"])
        return f"{', '.join(names or [f'--{dashed}'])} {self.metavar}"

    @property
    def shown_default(self) -> str:
        """The default, if it is one to show."""
        if self.default is inspect.Parameter.empty:
            return "required"
        if self.default is None or self.default is False or self.default == Path():
            return ""
        return f"`{self.default.value if isinstance(self.default, Enum) else self.default}`"

    @property
    def text(self) -> str:
        """The help text, with the choices, the range and the environment variable."""
        low, high = self.info.min, self.info.max
        text = self.info.help or ""
        if self.choices:
            text += f" One of {', '.join(self.choices)}."
        if high is not None:
            text += f" From {low:,g} to {high:,g}."
        elif low is not None:
            text += f" At least {low:,g}."
        return f"{text} Or set `{self.info.envvar}`." if self.info.envvar else text


def page() -> str:
    """Return the page."""
    return HEAD + "".join(_section(name, command) for name, command in commands(app, "pgqueue"))


def commands(group: typer.Typer, prefix: str) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield the commands of *group* by their full names, in the order of the help."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield f"{prefix} {command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for below in group.registered_groups:
        assert below.typer_instance is not None
        yield from commands(below.typer_instance, f"{prefix} {below.name}")


def _section(name: str, command: Callable[..., object]) -> str:
    declared = list(parameters(command))
    arguments = [each for each in declared if isinstance(each.info, ArgumentInfo)]
    options = [each for each in declared if isinstance(each.info, OptionInfo)]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *(each.metavar for each in arguments)])
    text = f"\n## {name}\n\n```text\n{usage}\n```\n\n{inspect.cleandoc(command.__doc__ or '')}\n"
    if arguments:
        text += "\n| argument | |\n|---|---|\n" + "".join(
            f"| `{each.metavar.strip('[].')}` | {each.text} |\n" for each in arguments
        )
    if options:
        text += "\n| option | default | |\n|---|---|---|\n" + "".join(
            f"| `{each.spelling}` | {each.shown_default} | {each.text} |\n" for each in options
        )
    return text


def parameters(command: Callable[..., object]) -> Iterator[Parameter]:
    """Yield the parameters of *command* that its help shows."""
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        declared, info = get_args(hints[name])
        if not info.hidden:
            yield Parameter(name, _one(declared), info, parameter.default)


def _one(declared: Any) -> Any:
    """Return the type of one value: of `list[X] | None`, X."""
    for each in get_args(declared):
        if each is not type(None):
            return _one(each)
    return declared


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
