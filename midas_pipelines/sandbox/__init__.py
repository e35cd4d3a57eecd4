"""A stateful 4Seller that speaks the contract: for the demo, for development and for tests. Imports only the contract."""
