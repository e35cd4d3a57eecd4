"""Questions about imported orders, and their sealed payloads."""
