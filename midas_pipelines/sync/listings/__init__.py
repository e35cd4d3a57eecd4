"""Listings: what an item should show on 4Seller, and pushing it."""
