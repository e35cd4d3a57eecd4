"""Our own tables beside the shop's: mappings, ledger, orders, logs; migrations; claims."""
