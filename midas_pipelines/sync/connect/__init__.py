"""The first connection: which listing of the account is which item of the shop, and what the first sync would change."""
