"""Alembic's entry: runs on the connection that `store/migrate.py` hands over, inside its transaction."""

from alembic import context

from midas_pipelines.store.schema.tables import store

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=store,
    version_table="midas_alembic_version",
    transaction_per_migration=False,
)
context.run_migrations()
