"""Prometheus metrics: counts of this process's events, and gauges of the database's queues and workers."""

from pgqueue.metrics.counters import count_events
from pgqueue.metrics.exposition import DatabaseMetrics, Metrics, SupervisorMetrics

__all__ = ["DatabaseMetrics", "Metrics", "SupervisorMetrics", "count_events"]
