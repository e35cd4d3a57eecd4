"""Marketplace orders: import, stock, shipments, status changes and customer mail.

`intake.poll` reads orders from 4Seller, `intake.write` writes them, `model.state_machine` decides transitions, and
`status` pushes the shop's changes to 4Seller.
"""
