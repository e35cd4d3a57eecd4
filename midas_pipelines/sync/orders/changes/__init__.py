"""What changes an order after its import: the marketplace, the shop, or a person."""
