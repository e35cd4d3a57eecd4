"""The worker: applies webhooks and pushes items."""
