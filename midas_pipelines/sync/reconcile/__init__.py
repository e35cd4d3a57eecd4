"""Reconciliation: reading listings back, deciding what differs, resolving it."""
