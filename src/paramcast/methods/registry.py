"""Methods of `paramcast compare`: one line for each method, which is imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from paramcast.errors import InputError
from paramcast.methods.base import Method

ASKED = -1
"""Number of labels: the number given on the command line."""

EVERY = 1_000_000
"""Number of labels: all labels of the device."""

METHODS: dict[str, tuple[str, str, int]] = {
    "base": ("static", "Static", 0),
    "paramcast": ("package", "Paramcast", 0),
    "shuffled": ("package", "Shuffled", 0),
    "centre": ("statistics", "Centre", 0),
    "whiten": ("statistics", "Whiten", 0),
    "csls": ("csls", "Csls", 0),
    "t3a": ("t3a", "T3a", 0),
    "prior": ("prior", "Prior", 0),
    "tent": ("tent", "Tent", 0),
    "foa": ("foa", "Foa", 0),
    "knn": ("knn", "Knn", ASKED),
    "fta_1": ("fta", "FineTuning", 1),
    "fta_4": ("fta", "FineTuning", 4),
    "fta_16": ("fta", "FineTuning", 16),
    "fta_64": ("fta", "FineTuning", 64),
    "fta_all": ("fta", "FineTuning", EVERY),
    "lora": ("lora", "Lora", ASKED),
    "fedavg": ("fedavg", "FedAvg", 0),
    "fedavg_ft": ("fedavg", "FedAvgTuned", ASKED),
    "dann_base": ("dann", "DannBase", 0),
    "m3bat": ("m3bat_row", "M3bat", 0),
    "cmda_ot": ("cmda_ot_row", "CmdaOt", 0),
    "mm_adapter": ("mm_adapter_row", "MmAdapter", ASKED),
    "cloud": ("cloud", "Cloud", 0),
}
"""Name -> module below `paramcast.methods`, class, number of labels of each device."""


def make_method(name: str, labels: int = 16) -> Method:
    """Make the method with this name; a method without a fixed number of labels takes `labels` labels.

    Raises:
        InputError: No method has this name.
    """
    if name not in METHODS:
        raise InputError(f"no method is called {name!r}; there are: {', '.join(METHODS)}")
    module, kind, own = METHODS[name]
    made: Method = getattr(importlib.import_module(f"paramcast.methods.{module}"), kind)(
        labels if own == ASKED else own
    )
    return made


def chosen(names: str, task: str) -> list[str]:
    """Return the names of the methods in `names` ('all', or a list with commas), always with 'base'.

    'all' stands for the methods that serve `task`.

    Raises:
        InputError: A name is not known, or its method does not serve the task.
    """
    if names == "all":
        return [name for name in METHODS if task in make_method(name).tasks]
    wanted = list(dict.fromkeys(["base", *(name.strip() for name in names.split(","))]))
    return [_serving(name, task) for name in wanted]


def _serving(name: str, task: str) -> str:
    served: Sequence[str] = make_method(name).tasks
    if task not in served:
        raise InputError(f"method {name!r} does not serve task {task!r}, only {', '.join(served)}")
    return name
