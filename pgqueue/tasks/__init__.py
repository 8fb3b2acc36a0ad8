"""Tasks, and what a caller holds of them: signatures, handles, the context of a running job."""
