"""The command that installs an extra of paramcast from the source of this installation.

It does not name a package index where paramcast came from elsewhere: an index may hold another package under
the same name.
"""

from __future__ import annotations

import json


def install_command(extra: str = "") -> str:
    """Return the command that installs paramcast with an extra from the source of this installation.

    With a name alone, pip asks an index, where someone else may have published another package by that name.
    """
    wanted = f"paramcast[{extra}]" if extra else "paramcast"
    source = _source()
    if source is None:
        return f"pip install '{wanted}'"
    url, editable = source
    if editable:
        folder = url.removeprefix("file://")
        return f"pip install -e '{folder}{wanted.removeprefix('paramcast')}'"
    return f"pip install '{wanted} @ {url}'"


def _source() -> tuple[str, bool] | None:
    """Return the URL that paramcast was installed from and whether it is editable; None for an index."""
    from importlib import metadata  # this import takes 20 ms, and each device imports `paramcast.errors`

    try:
        text = metadata.distribution("paramcast").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    if not text:
        return None
    told = json.loads(text)
    return str(told["url"]), bool(told.get("dir_info", {}).get("editable"))
