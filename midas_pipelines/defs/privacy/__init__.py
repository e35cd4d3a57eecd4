"""Personal data of buyers: erased in time."""
