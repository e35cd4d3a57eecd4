"""Messages to staff and customers: an outbox written with what it tells of, and its delivery afterwards."""
