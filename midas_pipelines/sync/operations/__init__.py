"""Reports about how the syncs run: performance, capacity, low stock, daily report."""
