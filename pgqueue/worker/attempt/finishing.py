"""An executor that asks middleware how each attempt is to end, before that is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgqueue.model.outcomes import Outcome
from pgqueue.tasks.middleware import FINAL, Middleware, finish
from pgqueue.worker.attempt.attempt import RunningAttempt
from pgqueue.worker.attempt.executor import Executor


class FinishingExecutor(Executor):
    """Runs attempts as an Executor does. *finishing*: the middleware that sees how they end."""

    def __init__(self, finishing: Sequence[Middleware], **options: Any) -> None:
        super().__init__(**options)
        self._finishing = finishing

    async def run(self, attempt: RunningAttempt) -> Outcome:
        """Run the handler once, and return what middleware makes of its outcome. Raises nothing."""
        outcome = await super().run(attempt)
        is_waiting = attempt.scope is not None and attempt.scope.suspended is not None
        if is_waiting or not isinstance(outcome, FINAL):
            return outcome
        changed = await finish(self._finishing, attempt.context, outcome)
        attempt.forget_context()
        # What a child process has committed with its transaction is over.
        return outcome if attempt.is_kept is not None else changed
