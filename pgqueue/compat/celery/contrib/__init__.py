"""Not there: importing a part of celery.contrib says what to use instead."""

raise ImportError(
    "celery.contrib is not available over pgqueue: test with task_always_eager or pgqueue.testing, ask "
    "self.request.context.is_stopped in a task that can be aborted, and read docs/reference/compat.md"
)
