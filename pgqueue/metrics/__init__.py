"""Prometheus metrics: what happens in this process, and what the database's queues and workers look like."""

from pgqueue.metrics.counters import count_events
from pgqueue.metrics.exposition import DatabaseMetrics, Metrics, SupervisorMetrics

__all__ = ["DatabaseMetrics", "Metrics", "SupervisorMetrics", "count_events"]
