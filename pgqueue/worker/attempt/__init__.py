"""One attempt: its state, its execution, its time limits."""
