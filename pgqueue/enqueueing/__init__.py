"""From calls to jobs that are durable: batches, idempotency keys, writing."""
