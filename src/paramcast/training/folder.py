"""A model's folder: writing it atomically, and reading it into a module built like the saved one."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from paramcast.adapters import load_config
from paramcast.errors import InputError
from paramcast.files import remove_halves, replacing, write_json
from paramcast.training import examples
from paramcast.training.model import AdaptableModel, ModelError
from paramcast.training.uplink import Uplink

FORMAT = 1
"""Version of a model's folder."""


def save(model: AdaptableModel, folder: Path | str) -> None:
    """Write the model; `config.json` is written last, so a folder without it is incomplete."""
    folder = Path(folder)
    structure, tensors = examples.dump(examples.shipped(model.net, model.fitted.example))
    folder.mkdir(parents=True, exist_ok=True)
    remove_halves(folder)
    for name, module in model._modules().items():
        with replacing(folder / f"{name}.safetensors") as path:
            save_file(_owned(module.state_dict()), path)
    uplink = model.fitted.uplink
    with replacing(folder / "uplink.safetensors") as path:
        save_arrays({k: np.ascontiguousarray(getattr(uplink, k)) for k in ("mean", "matrix")}, path)
    with replacing(folder / "example.safetensors") as path:
        save_file(tensors, path)
    stored = {
        "format": FORMAT,
        "example": structure,
        "sha256": model.fingerprint(),
        **model._config(),
        "domains": list(model.fitted.domains),
        "truth_dim": model.fitted.truth_dim,
        "summary": model.fitted.summary,
    }
    write_json(folder / "config.json", stored)


def load(folder: Path | str, net: nn.Module, context: nn.Module | None = None) -> AdaptableModel:
    """Read a folder of `AdaptableModel.save` into a module that is built like the saved one.

    Args:
        folder: The model's folder.
        net: The module; its weights are replaced.
        context: The context module, built like the saved one; needed only if the saved model has one.

    Raises:
        ModelError: The folder holds no model, a model of another module, or files that were changed.
    """
    folder = Path(folder)
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if stored.get("format") != FORMAT:
            raise ModelError(f"{folder}: this version of paramcast reads models of format {FORMAT}")
        told = stored["context"]
        if told["kind"] == "BesideDescriber" and context is None:
            raise ModelError(
                f"{folder}: the model has its own context module; give load(..., context=module)"
            )
        describer = told["name"] if told["kind"] == "TapDescriber" else context
        model = AdaptableModel(net, stored["target_modules"], load_config(stored["adapter"]), describer)
        example = examples.restore(stored["example"], load_file(folder / "example.safetensors"))
        uplink = Uplink(**load_arrays(folder / "uplink.safetensors"))
        model.begin(uplink, example, stored["truth_dim"], tuple(stored["domains"]))
        for name, module in model._modules().items():
            module.load_state_dict(_versioned(load_file(folder / f"{name}.safetensors"), module))
            module.eval()
        model.fitted.summary = stored["summary"]
        model.begin_with_start()
        model.describer.restore(told)
    except OSError as error:
        raise ModelError(
            f"{folder} holds no complete model ({Path(error.filename or folder).name} is missing)"
        ) from error
    except ModelError:
        raise
    except (InputError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder} is not a model of this module: {error}") from error
    if model.fingerprint() != stored["sha256"]:
        raise ModelError(f"{folder}: files have changed since they were written; copy the folder again")
    return model


def _versioned(tensors: Mapping[str, Tensor], module: nn.Module) -> OrderedDict[str, Tensor]:
    """Add the version metadata that modules may need to load a state; safetensors files do not hold it."""
    state = OrderedDict(tensors)
    state._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    return state


def _owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors so that they share no memory, as safetensors requires."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
