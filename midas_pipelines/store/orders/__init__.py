"""Queries on imported orders, and their encrypted payloads."""
