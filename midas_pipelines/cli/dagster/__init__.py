"""Commands that start Dagster's jobs or prepare its home."""
