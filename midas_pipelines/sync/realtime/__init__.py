"""Pushing each item as soon as it is ready, in a process that stays."""
