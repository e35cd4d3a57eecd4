"""Personal data: where it may be, why, how long, and how it is sealed."""
