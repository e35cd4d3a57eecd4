"""The channel: all knowledge of the 4Seller API, and the only code that calls it."""
