"""Our tables and triggers, as Alembic makes them."""
