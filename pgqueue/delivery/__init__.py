"""Tasks whose handlers are HTTP endpoints, and the webhooks that tell of the ends of jobs."""
