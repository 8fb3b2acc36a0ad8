"""FastAPI: an app that opens a PgQueue, and endpoints that are given it.

app = FastAPI(lifespan=lifespan(pgq))

@app.post("/sign-up", status_code=202)
async def sign_up(address: str, queue: Queue) -> UUID:
    return (await queue.enqueue(send_email.s(address))).id
"""

from __future__ import annotations

from typing import Annotated

from pgqueue.app import PgQueue
from pgqueue.integrations.starlette import lifespan, queue_of

try:
    from fastapi import Depends
except ImportError as error:
    raise ImportError("pgqueue.integrations.fastapi needs FastAPI: `pip install fastapi`") from error

__all__ = ["Queue", "lifespan", "queue_of"]

Queue = Annotated[PgQueue, Depends(queue_of)]
"""The PgQueue of the app, for an endpoint or another dependency: `async def sign_up(queue: Queue)`."""
