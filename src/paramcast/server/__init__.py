"""The service that answers a device's request with a signed update. Needs the extra `server`, no torch."""

from paramcast.server.app import create_app
from paramcast.server.backend import AdaptBackend
from paramcast.server.bundles import BrowserBundle
from paramcast.server.db import Database, StateError, StateInputError
from paramcast.server.embedded import Server
from paramcast.server.generating import BackendError
from paramcast.server.request_guard import RequestGuard
from paramcast.server.service import AdaptService
from paramcast.server.serving import Models, PublishedModels, Served, WrongModelError
from paramcast.server.store import ModelStore

__all__ = [
    "AdaptBackend",
    "AdaptService",
    "BackendError",
    "BrowserBundle",
    "Database",
    "ModelStore",
    "Models",
    "PublishedModels",
    "RequestGuard",
    "Served",
    "Server",
    "StateError",
    "StateInputError",
    "WrongModelError",
    "create_app",
]
