"""What `defs/` shares and Dagster does not load."""
