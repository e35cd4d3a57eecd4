"""Trying and changing safely: `midas doctor`, `connect`, `undo`."""
