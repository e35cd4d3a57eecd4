"""The gateway: webhooks and the shop's calls, handled in milliseconds by the same engine that Dagster drives."""
