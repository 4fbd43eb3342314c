"""Run by Alembic: migrate over the connection, and in the transaction, that we were given."""

from alembic import context

from tpmhsm.store.version import TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
