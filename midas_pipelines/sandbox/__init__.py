"""A stateful 4Seller that implements the contract: for the demo, for development and for tests. Imports only the contract."""
