"""The engine: computes what each channel should show, pushes the difference, imports what the channel sold.

Plain Python; knows nothing of Dagster or of HTTP servers. `defs`, `gateway` and `cli` drive it.
"""
