"""Logs and figures of the syncs."""
