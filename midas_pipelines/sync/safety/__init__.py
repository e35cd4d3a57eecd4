"""Changing safely: waves before the whole of a large plan, and undoing what a run wrote."""
