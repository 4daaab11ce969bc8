"""The service that turns a device's request into a signed parameter package. Needs the `cloud` extra."""

from paramcast.cloud.app import create_app
from paramcast.cloud.bundles import BrowserBundle
from paramcast.cloud.gate import Gate
from paramcast.cloud.models import AdaptBackend, Models, PublishedModels, Served, WrongModelError
from paramcast.cloud.service import AdaptService, BackendError
from paramcast.cloud.state import Database, StateError, StateInputError
from paramcast.cloud.store import ModelStore

__all__ = [
    "AdaptBackend",
    "AdaptService",
    "BackendError",
    "BrowserBundle",
    "Database",
    "Gate",
    "ModelStore",
    "Models",
    "PublishedModels",
    "Served",
    "StateError",
    "StateInputError",
    "WrongModelError",
    "create_app",
]
