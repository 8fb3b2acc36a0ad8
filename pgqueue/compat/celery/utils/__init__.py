"""Helpers that tasks import."""
