"""The stock ledger, and channel rules."""
