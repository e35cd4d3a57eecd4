"""The shop's own tables and the queries on them. The shop owns these; we never alter their columns."""
