"""Waiting for changes: event streams and long polls.

No state is kept for a client: a version is a digest of the document that it stands for, so that a reconnect
resumes at any process. What waits is bounded, and ends when the server stops. A server that waited for its
open streams would never stop.
"""
