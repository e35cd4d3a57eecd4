"""Imports orders: poll and webhook lead to the same import."""
