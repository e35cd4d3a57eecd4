"""The engine: computes what each channel should show, pushes the difference, imports what the channel sold.

Plain Python; knows nothing of Dagster or of HTTP servers. `defs`, `gateway` and `cli` drive it.
"""

import gc

# Its batches leave many rows and no cycles: to look for garbage after each 700 objects, as Python does, took a sixth of
# the time of an import and a quarter of that of a first comparison.
gc.set_threshold(50_000, 20, 20)
