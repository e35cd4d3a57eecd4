"""Snapshots: what the shop said and what 4Seller showed, a Parquet file a day, and what follows from comparing them."""
