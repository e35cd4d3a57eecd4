"""How cost grows with the catalogue and with the orders."""
