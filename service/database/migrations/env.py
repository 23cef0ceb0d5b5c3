"""What Alembic runs: on the connection it is handed, within that one's transaction."""

from alembic import context

from service.database.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
