"""What the gateway did between two runs."""
