"""The catalog of the shop."""
