"""The gateway's tables: stored webhooks, keys, audit log, notifications."""
