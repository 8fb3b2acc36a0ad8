"""A PgQueue to call from any code, as clients of other frameworks are: nothing is opened by hand.

It is opened by the first call, once for each process. Its event loop has a thread of its own, so it can be
called from synchronous code, from a running event loop (which waits), and inside a handler. A worker has
opened the PgQueue of its tasks in another event loop; so this is a second one, of the same database.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, Final

from pgqueue import PgQueue
from pgqueue.blocking import BlockingPgQueue

_locks: Final[dict[int, threading.RLock]] = {}
"""One for each process: a fork may copy one that another thread holds."""
_opened: Final[dict[PgQueue, tuple[int, str | None, BlockingPgQueue]]] = {}
"""By the PgQueue that declares the tasks: in which process it was opened, and for which DSN."""
_of_parents: Final[list[BlockingPgQueue]] = []
"""Clients that a fork has copied. They are the parent's: neither used, closed nor collected here."""
_watched: Final[set[int]] = set()


def _lock() -> threading.RLock:
    return _locks.setdefault(os.getpid(), threading.RLock())


def connected(pgq: PgQueue, options: Mapping[str, Any] | None = None) -> BlockingPgQueue:
    """Return an open client of the database of *pgq*, whose tasks' calls can be enqueued by it.

    The same one at each call. After a fork, and if the DSN of *pgq* was changed, it is another one. It is
    closed when the program ends. *options*: the arguments that *pgq* was made with, apart from its DSN and
    schema.

    Raises what `PgQueue.open` raises: ConfigurationError, DatabaseUnavailableError, SchemaError.
    """
    with _lock():
        pid, known = os.getpid(), _opened.get(pgq)
        if known is not None and known[:2] == (pid, pgq.dsn):
            return known[2]
        if known is not None:
            _close(*known)
        client = BlockingPgQueue(PgQueue(pgq.dsn, **{**(options or {}), "schema": pgq.schema}))
        client.__enter__()
        _opened[pgq] = pid, pgq.dsn, client
        _watch()
        return client


def disconnect(pgq: PgQueue) -> None:
    """Close the client of *pgq*, if there is one. The next call opens another one."""
    with _lock():
        known = _opened.pop(pgq, None)
        if known is not None:
            _close(*known)


def _close(pid: int, dsn: str | None, client: BlockingPgQueue) -> None:  # noqa: ARG001  # as it is kept
    if pid == os.getpid():
        client.__exit__(None, None, None)
    else:
        _of_parents.append(client)


def _watch() -> None:
    """Close all clients once the main thread has ended, before its process does."""
    # Not by atexit: that comes after all threads were joined, and the event loop's may be one of them.
    if os.getpid() not in _watched:
        _watched.add(os.getpid())
        threading.Thread(target=_close_at_end, name="pgqueue clients", daemon=False).start()


def _close_at_end() -> None:
    threading.main_thread().join()
    with _lock():
        for known in list(_opened.values()):
            _close(*known)
        _opened.clear()
