"""What the cloud remembers: devices, models, packages issued, feedback. SQLite, or PostgreSQL by URL."""

from paramcast.cloud.state.database import Database
from paramcast.cloud.state.errors import StateError, StateInputError

__all__ = ["Database", "StateError", "StateInputError"]
