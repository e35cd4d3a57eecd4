"""Orders from the marketplaces."""
