"""One HTTP call to 4Seller: rate limit, retries, reading the answer."""
