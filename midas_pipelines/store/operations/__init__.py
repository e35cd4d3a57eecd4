"""Logs and metrics of the syncs."""
