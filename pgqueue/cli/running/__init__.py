"""Shared by commands that keep running: start and exit, HTTP servers, sockets, the metrics port."""
