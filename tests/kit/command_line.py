"""Runs commands of `pgqueue` as a shell would."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from typer.testing import CliRunner

from pgqueue.cli import app


class Cli:
    """Runs commands on a database, in a thread: a command has a loop of its own."""

    def __init__(self, dsn: str, *group: str) -> None:
        self._dsn = dsn
        self._group = group

    async def __call__(self, command: str, *arguments: object, answer: str = "") -> tuple[int, str, str]:
        given = [*self._group, command, f"--dsn={self._dsn}", *map(str, arguments)]
        result = await asyncio.to_thread(CliRunner().invoke, app, given, input=answer)
        return result.exit_code, result.stdout, result.stderr

    async def json(self, command: str, *arguments: object) -> Any:
        """Return the document that a command prints, which has done its work."""
        code, stdout, stderr = await self(command, *arguments, "--json")
        assert code == 0, stderr
        return json.loads(stdout)
