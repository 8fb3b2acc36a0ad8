"""Hears what pgqueue announces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from conftest import Connection

END = "end of the test"


class Ear:
    """Hears what is said on the channel, up to the end of the test."""

    def __init__(self) -> None:
        self._messages: list[str] = []
        self._ended = asyncio.Event()

    def hear(self, _connection: object, _pid: int, _channel: str, message: object) -> None:
        if message == END:
            self._ended.set()
        else:
            self._messages.append(str(message))

    async def heard_on(self, connection: Connection) -> list[str]:
        """Return all that was said: notifications arrive in the order of their commits."""
        await connection.execute("select pg_notify('pgqueue', $1)", END)
        await self._ended.wait()
        return self._messages


@asynccontextmanager
async def listening(dsn: str) -> AsyncIterator[Ear]:
    """An ear on a connection of its own."""
    ear = Ear()
    connection = await asyncpg.connect(dsn)
    await connection.add_listener("pgqueue", ear.hear)
    yield ear
    await connection.remove_listener("pgqueue", ear.hear)
    await connection.close()
