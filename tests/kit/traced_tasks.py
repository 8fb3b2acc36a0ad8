"""A traced task that runs in a child process of a worker. Each process exports its spans to one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from pgqueue import PgQueue
from pgqueue.integrations.opentelemetry import instrument

DSN = "PGQUEUE_TEST_DSN"
SPANS = "PGQUEUE_TEST_SPANS"


class ToFile(SpanExporter):
    """Appends spans to the file that the environment names."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write them."""
        with Path(os.environ[SPANS]).open("a") as file:
            file.writelines(f"{span.to_json(indent=None)}\n" for span in spans)
        return SpanExportResult.SUCCESS


provider = TracerProvider()
if SPANS in os.environ:
    # As in production: what is not flushed is exported later. It has a thread, so not where it is not used.
    provider.add_span_processor(BatchSpanProcessor(ToFile(), schedule_delay_millis=60_000))
pgq = PgQueue(os.environ.get(DSN, "postgresql://not-a-worker-process/"))
instrument(pgq, tracer_provider=provider)


@pgq.task(isolation="process", max_retries=0)
def where() -> str:
    """Return the span that the handler runs in."""
    return trace.format_span_id(trace.get_current_span().get_span_context().span_id)
