"""What the cloud remembers: devices, models, packages issued, feedback. SQLite, or PostgreSQL by URL."""

from paramcast.server.db.database import Database
from paramcast.server.db.errors import StateConflictError, StateError, StateInputError

__all__ = ["Database", "StateConflictError", "StateError", "StateInputError"]
