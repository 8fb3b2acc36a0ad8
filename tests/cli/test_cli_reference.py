"""The reference of the command line says what the commands take."""

from __future__ import annotations

import pytest
from kit.generated import load_generator
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


def test_options_that_only_pgqueue_itself_sets_are_left_out() -> None:
    assert "--supervisor-pipe" not in cli.page()
