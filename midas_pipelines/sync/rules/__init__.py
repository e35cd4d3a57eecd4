"""Channel rules: the arithmetic of quantities and prices, editing, simulating."""
