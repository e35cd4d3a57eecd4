"""The endpoints, and what each call passes first."""
