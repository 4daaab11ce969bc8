"""State of the server: devices, models, issued updates, feedback. In SQLite, or in PostgreSQL by URL."""

from paramcast.server.db.database import Database
from paramcast.server.db.errors import StateConflictError, StateError, StateInputError

__all__ = ["Database", "StateConflictError", "StateError", "StateInputError"]
