"""Workflows: from calls that were composed to the rows that are written, and from rows to pictures.

Pure functions on values. What runs a workflow is in the database (`settle`, `attend`) and in the worker.
"""
