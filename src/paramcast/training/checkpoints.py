"""The folder of checkpoints, from which a killed training run continues."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paramcast.errors import InputError
from paramcast.files import check_same_run, write_json
from paramcast.training.team import Team


@contextmanager
def checkpoint_folder(folder: Path | str | None, run: dict[str, Any], team: Team) -> Iterator[Path]:
    """Open the folder of a run's checkpoints, and remove it when the run is complete.

    Args:
        folder: The folder from which a killed run continues; None: a temporary folder.
        run: The options of the run, as JSON types; a run continues only with equal options.
        team: The processes that train together.

    Raises:
        InputError: The folder holds other files, or a run with other options.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
        return
    work = Path(folder)
    if (work / "run.json").exists():
        check_same_run(
            work, "a run", json.loads((work / "run.json").read_text(encoding="utf-8")), copy.deepcopy(run)
        )
    elif work.exists() and any(work.iterdir()):
        raise InputError(f"{work} holds other files; choose an empty folder for checkpoints")
    team.agreed(None)  # all workers check the folder before the first file is written
    if team.rank == 0:
        work.mkdir(parents=True, exist_ok=True)
        write_json(work / "run.json", run)
    team.agreed(None)
    yield work
    if team.rank == 0:
        shutil.rmtree(work)
