"""paramcast: parameters for one device, generated in the cloud in one forward pass.

A device sends a few hundred bytes: features of the examples that it has observed. The cloud generates and
signs parameters for that device. The device verifies them and swaps them in. The device needs neither labels
nor back-propagation. The method is CDC-MMPG (Ji et al., arXiv 2406.01601).

    import paramcast as pc

    model = pc.adaptable(net, target_modules=["head"])
    model.fit(train_devices, validation_devices)
    print(model.evaluate(test_devices).table())
    model.export("artifact", key="signing.key")

Names are imported when they are first used: `import paramcast` needs neither torch nor ONNX Runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "AdaptableModel": "paramcast.training.model",
    "Always": "paramcast.device",
    "Basis": "paramcast.adapters",
    "Device": "paramcast.device",
    "DeviceData": "paramcast.training.devices",
    "Every": "paramcast.device",
    "Full": "paramcast.adapters",
    "LowRank": "paramcast.adapters",
    "Never": "paramcast.device",
    "NormStatistics": "paramcast.adapters",
    "OnDrift": "paramcast.device",
    "Residual": "paramcast.adapters",
    "Score": "paramcast.training.scores",
    "Server": "paramcast.server",
    "adaptable": "paramcast.training.model",
    "load": "paramcast.training.folder",
}
"""Public name -> the module that defines it."""

_EXTRAS = {"training": "train", "adapters": "train", "server": "server", "video": "video,train"}
"""Part of the package -> the extra that it needs. Other parts need no extra."""

__all__ = [
    "AdaptableModel",
    "Always",
    "Basis",
    "Device",
    "DeviceData",
    "Every",
    "Full",
    "LowRank",
    "Never",
    "NormStatistics",
    "OnDrift",
    "Residual",
    "Score",
    "Server",
    "adaptable",
    "load",
    "video",
]

if TYPE_CHECKING:
    from paramcast import video
    from paramcast.adapters import Basis, Full, LowRank, NormStatistics, Residual
    from paramcast.device import Always, Device, Every, Never, OnDrift
    from paramcast.server import Server
    from paramcast.training.devices import DeviceData
    from paramcast.training.folder import load
    from paramcast.training.model import AdaptableModel, adaptable
    from paramcast.training.scores import Score


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(
            f"module 'paramcast' has no attribute {name!r}; public names: {', '.join(__all__)}"
        )
    home = _NAMES.get(name, f"paramcast.{name}")
    try:
        module = importlib.import_module(home)
        found = getattr(module, name) if name in _NAMES else module
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(home.split(".")[1])
        if extra is None or (error.name or "").partition(".")[0] == "paramcast":
            raise
        from paramcast.errors import MissingExtraError

        raise MissingExtraError(f"paramcast.{name}", extra) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
