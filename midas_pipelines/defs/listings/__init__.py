"""Listings on 4Seller."""
