"""Mail to customers: queued in the order's transaction, sent once."""
