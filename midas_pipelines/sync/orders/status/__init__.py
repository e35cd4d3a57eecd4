"""Pushes the statuses and shipments of the shop to 4Seller."""
