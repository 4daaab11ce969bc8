"""Environment of Alembic: runs the migrations over a given connection, inside its transaction."""

from __future__ import annotations

from alembic import context

from paramcast.server.db.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
