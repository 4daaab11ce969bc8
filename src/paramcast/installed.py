"""How to install more of paramcast: from where this one came, as an index may hold somebody else's."""

from __future__ import annotations

import json


def install_command(extra: str = "") -> str:
    """The command that installs paramcast with an extra, from the folder or file it was installed from.

    A name alone asks an index, which may hold what a stranger has put there under it.
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
    """Where paramcast was installed from, and whether it is run there; None where that was an index."""
    from importlib import metadata  # it takes 20 ms, and each device imports `paramcast.errors`

    try:
        text = metadata.distribution("paramcast").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    if not text:
        return None
    told = json.loads(text)
    return str(told["url"]), bool(told.get("dir_info", {}).get("editable"))
