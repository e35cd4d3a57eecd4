"""What an order is: its amounts, states, lines, exceptions and log."""
