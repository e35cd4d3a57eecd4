"""Marketplace orders: imported once each, shipped, moved along with their marketplace, and told from end to end.

`polling` reads them from 4Seller, `importing` writes them, `statuses` is the state machine, `status_sync` tells
4Seller what the shop did.
"""
