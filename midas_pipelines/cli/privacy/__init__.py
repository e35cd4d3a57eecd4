"""`midas privacy`, and the keys that payloads are sealed with."""
