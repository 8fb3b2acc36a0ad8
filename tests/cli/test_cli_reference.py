"""The reference of the command line says what the commands take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from kit.generated import load_generator
from kit.snippets import PAGES, snippets_in
from typer.testing import CliRunner

from pgqueue.cli import app

cli = load_generator("cli")
COMMANDS = dict(cli.commands(app, "pgqueue"))


def test_the_page_is_what_the_commands_make_it() -> None:
    assert cli.PAGE.read_text(encoding="utf-8") == cli.page(), "run `python docs/generate`"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_what_its_section_lists(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split()[1:], "--help"], env={"COLUMNS": "300", "NO_COLOR": "1"})

    assert shown.exit_code == 0
    for parameter in cli.parameters(COMMANDS[name]):
        if isinstance(parameter.info, cli.OptionInfo):
            for spelling in parameter.spelling.split(" ")[0].rstrip(",").split("/"):
                assert spelling in shown.stdout.split()


GROUPS = {name.split()[1] for name in COMMANDS if name.count(" ") > 1}


def typed() -> Iterator[tuple[str, str]]:
    """Yield each command of pgqueue that README and docs mention, in a shell or within a sentence."""
    for page in PAGES:
        if page == cli.PAGE or page.name == "CHANGELOG.md":
            continue
        spans = re.findall(r"`pgqueue ([^`]+)`", page.read_text(encoding="utf-8"))
        for code in snippets_in(page, "console"):
            for line in code.replace("\\\n", " ").splitlines():
                if line.startswith("$ "):
                    spans += re.findall(r"(?:^|&& |\| )pgqueue ([^&|>]*)", line[2:])
        for span in spans:
            # Alternatives: `pgqueue dead list|show`.
            words = span.replace("[", " ").replace("]", " ").split()
            for first in words[1].split("|") if len(words) > 1 and words[0] in GROUPS else [""]:
                yield page.name, " ".join([words[0], first, *words[2:]] if first else words)


def options_of(name: str) -> set[str]:
    """Return the options of a command."""
    spelled = [
        each.spelling for each in cli.parameters(COMMANDS[name]) if isinstance(each.info, cli.OptionInfo)
    ]
    return {"--help", "-h", *re.findall(r"(?<!\w)--?[a-z][a-z-]*", " ".join(spelled))}


@pytest.mark.contract("P8.1")
def test_every_command_and_option_that_readme_and_docs_mention_exists() -> None:
    mentioned = list(dict.fromkeys(typed()))
    wrong = []
    for page, line in mentioned:
        words = shlex.split(line, comments=True)
        options = {word.partition("=")[0] for word in words if word.startswith("-")}
        names = [" ".join(words[:2]), words[0]]
        name = next((each for each in names if f"pgqueue {each}" in COMMANDS), None)
        is_group = name is None and words[0] in GROUPS and len(words) == 1
        known = options_of(f"pgqueue {name}") if name else {"--help", "--version", "-h"}
        if not (name or is_group or words[0].startswith("-")) or not options <= known:
            wrong.append((page, line))

    assert len(mentioned) > 50
    assert wrong == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_cuts_no_option_at_eighty_columns(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split()[1:], "-h"], env={"COLUMNS": "80", "NO_COLOR": "1"})

    assert shown.exit_code == 0
    assert "…" not in shown.stdout
    words = shown.stdout.replace(",", " ").split()
    for parameter in cli.parameters(COMMANDS[name]):
        if isinstance(parameter.info, cli.OptionInfo):
            assert parameter.spelling.split(" ")[0].rstrip(",").split("/")[0] in words


def test_options_that_only_pgqueue_itself_sets_are_left_out() -> None:
    for option in ("--supervisor-pipe", "--retire-pipe", "--report-to", "--of-several"):
        assert option not in cli.page()
