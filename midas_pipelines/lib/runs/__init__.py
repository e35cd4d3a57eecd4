"""Dagster's runs: tags, failures, history, executors."""
