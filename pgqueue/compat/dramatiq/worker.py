"""`Worker`: processes messages in this process, beside the program."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from contextlib import ExitStack

from pgqueue.blocking import BlockingPgQueue, BlockingWorker
from pgqueue.compat import Lacking
from pgqueue.compat.dramatiq.broker import LIVE, Broker

PAUSE = 0.05


class Worker(Lacking):
    """Processes the messages of a broker. `pgqueue worker module:broker` is the command that does."""

    lacking = "run `pgqueue worker`, or use broker.pgqueue.worker(...)"

    def __init__(
        self,
        broker: Broker,
        *,
        queues: Collection[str] | None = None,
        worker_timeout: int = 1000,
        worker_threads: int = 8,
    ) -> None:
        del worker_timeout
        self.broker = broker
        self.queues = queues
        self.worker_threads = worker_threads
        self._stack = ExitStack()
        self._worker: BlockingWorker | None = None

    def start(self) -> None:
        """Begin to process messages."""
        with ExitStack() as stack:
            queue = stack.enter_context(BlockingPgQueue(self.broker.pgqueue))
            names = None if self.queues is None else list(self.queues)
            self._worker = stack.enter_context(queue.worker(queues=names, concurrency=self.worker_threads))
            self._stack = stack.pop_all()
        # The program may end without `stop`, and its process waits for all threads.
        threading.Thread(target=self._stop_at_end, name="pgqueue worker", daemon=False).start()

    def stop(self, timeout: int = 600_000) -> None:
        """Finish what is being processed, and stop."""
        del timeout
        self._stack.close()

    def _stop_at_end(self) -> None:
        threading.main_thread().join()
        self.stop()

    def join(self) -> None:
        """Wait until all messages of its queues were processed, delayed ones too."""
        queues = self.queues or self.broker.get_declared_queues()
        while any(self.broker.client.jobs(status=LIVE, queue=each, limit=1).jobs for each in queues):
            time.sleep(PAUSE)
