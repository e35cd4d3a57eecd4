"""Mappings between items and listings: dirty, claimed, acknowledged."""
