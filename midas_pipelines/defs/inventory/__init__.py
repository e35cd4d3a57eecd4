"""Stock and what channels show of it."""
