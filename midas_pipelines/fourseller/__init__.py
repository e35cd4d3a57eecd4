"""The channel: everything that is known of the 4Seller API, and the only place that speaks to it."""
