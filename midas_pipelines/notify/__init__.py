"""Alerts to staff and mail to customers: an outbox written with the change it reports, and its delivery afterwards."""
