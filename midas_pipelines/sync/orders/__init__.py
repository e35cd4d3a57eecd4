"""Marketplace orders: import, stock, shipments, status changes and customer mail.

`intake` reads orders from 4Seller and writes them, `changes` applies what changes them afterwards, `status` pushes the
shop's changes to 4Seller, `stock` allocates and releases, `customer_mail` notifies buyers. `model` is what all share:
a sale as read, its lines and amounts. `fourseller/status.py` has the table that decides transitions.
"""
