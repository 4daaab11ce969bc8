"""Log of the service on standard error, as lines for people or as JSON objects for machines."""

from __future__ import annotations

import logging

from pythonjsonlogger.json import JsonFormatter

_FIELDS = "%(asctime)s %(levelname)s %(name)s %(message)s"


def set_up_logs(form: str, level: str) -> None:
    """Set up the log as `text` or `json`, from `level` on; for libraries from warnings on."""
    handler = logging.StreamHandler()
    if form == "json":
        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(JsonFormatter(_FIELDS, rename_fields=names))
    else:
        handler.setFormatter(logging.Formatter(_FIELDS))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("paramcast").setLevel(level.upper())
