"""The service that turns a device's request into a signed parameter package. Needs the `cloud` extra."""

from paramcast.cloud.app import create_app
from paramcast.cloud.service import AdaptBackend, AdaptService, BackendError, WrongModelError

__all__ = ["AdaptBackend", "AdaptService", "BackendError", "WrongModelError", "create_app"]
