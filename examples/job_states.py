"""The status of jobs, and every transition as a log record.

You write no repository and update no status: the queue keeps a job's state, its times (time zone-aware, by
the database's clock) and its history, in the transactions that change them, and refuses illegal transitions.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any
from uuid import UUID

from pgqueue import JobContext, JobStatus, PgQueue
from pgqueue.logs import RECORD, JobLogFilter

logger = logging.getLogger(__name__)

pgq = PgQueue(os.environ.get("DATABASE_URL", "postgresql://localhost/app"))


class JsonLines(logging.Formatter):
    """One JSON object per record, with the attributes of the transition or of the job that logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of *record*."""
        known = {name: getattr(record, name) for name in RECORD if getattr(record, name, None) is not None}
        return json.dumps({"level": record.levelname, "message": record.getMessage(), **known})


def set_up_logging(handler: logging.Handler) -> None:
    """Log transitions, also successful ones, and the ids of jobs in the records of their handlers."""
    handler.setFormatter(JsonLines())
    handler.addFilter(JobLogFilter())
    for name in ("pgqueue.jobs", __name__):
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).addHandler(handler)


@pgq.task(max_retries=1, default_retry_delay=0)
async def import_file(ctx: JobContext, path: str) -> int:
    """Fail the first time."""
    logger.info("importing")
    if ctx.attempt == 1:
        raise OSError("the share is not mounted yet")
    return len(path)


async def history(job_id: UUID) -> dict[str, Any]:
    """Return the history of a job so far."""
    job, attempts = await pgq.get(job_id), await pgq.attempts(job_id)
    return {
        "status": job.status.value,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at if job.is_terminal else None,
        "result": job.result if job.status is JobStatus.SUCCEEDED else None,
        "failed_attempts": [(each.attempt, each.reason) for each in attempts],
    }
