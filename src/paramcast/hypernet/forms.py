"""Forms of updates by their older names, and hypernetworks over a module that generate such updates.

The video application's model folders, bundles and updates were written with these names, and stay readable:
form `codes` is the adapter `basis` (its option `count` is the rank), with the same tensors and state keys.
Form `lowrank` names its tensors after the layer (LAYER.a, LAYER.b, LAYER.scale, LAYER.bias).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from paramcast.adapters import AdaptedModule, TargetError
from paramcast.adapters.base import Adapter, Composite, Shape, Values
from paramcast.adapters.basis import BasisAdapter
from paramcast.adapters.centre import CentreAdapter
from paramcast.adapters.configs import CONFIGS, load_config
from paramcast.adapters.full import FullAdapter
from paramcast.adapters.lowrank import LowRankAdapter
from paramcast.adapters.residual import ResidualAdapter
from paramcast.adapters.targets import select
from paramcast.errors import InputError
from paramcast.hypernet.centre import CentreStart
from paramcast.hypernet.context import ContextInputs
from paramcast.hypernet.hypernetwork import Hypernetwork, HypernetworkConfig

FORMS = ("full", "residual", "lowrank", "codes")
"""Every form."""

CENTRE_DIMS = 16
"""Number of leading directions of text features in which a device's mean is subtracted."""


class CodesAdapter(BasisAdapter):
    """The adapter `basis` under its older name."""

    name = "codes"


class LayerLowRank(LowRankAdapter):
    """The adapter `lowrank` with tensors that are named after the layer instead of the parameter."""

    @property
    def shapes(self) -> dict[str, Shape]:
        """Tensors LAYER.a and LAYER.b for weights of two or more axes, LAYER.scale for others, LAYER.bias."""
        return {_of_layer(name): shape for name, shape in super().shapes.items()}

    def renamed(self, values: Values) -> Values:
        """Add the values under the parameters' names."""
        found = dict(values)
        for name in super().shapes:
            found[name] = values[_of_layer(name)]
        return found

    def _spread(self) -> dict[str, float]:
        return {_of_layer(name): size for name, size in super()._spread().items()}


class FormHypernetwork(Hypernetwork):
    """A hypernetwork over a module. It generates updates of an older form, and a centre for centred layers.

    Attributes:
        form: One of `FORMS`.
        centre: The centre; None if no layer is centred.
        adapted: The module under updates.
    """

    def __init__(
        self,
        config: HypernetworkConfig,
        form: str,
        module: nn.Module,
        targets: Sequence[str],
        *,
        options: Mapping[str, int] | None = None,
        centred: Sequence[str] = (),
        centre_dims: int = CENTRE_DIMS,
    ) -> None:
        """Build it.

        Args:
            config: Inputs of the hypernetwork.
            form: Form of the updates.
            module: The base model. It is no part of the hypernetwork's state.
            targets: Patterns of the target modules.
            options: Options of the form: `rank` of lowrank, `count` of codes.
            centred: Names of the layers that read text features and whose input mean can be subtracted.
            centre_dims: Number of directions of the centre.

        Raises:
            InputError: An unknown form or option, or targets that do not fit the module.
        """
        adapter = form_adapter(form, module, targets, options or {})
        centre = CentreAdapter(module, centred, centre_dims) if centred else None
        if centre and (unknown := centre.targets.keys() - adapter.targets.keys()):
            raise TargetError(f"centred layers must be targets; these are not: {', '.join(sorted(unknown))}")
        super().__init__(config, adapter)
        self.form, self.centre = form, centre
        # A constant context has no device, and so no mean to subtract.
        self.start = CentreStart(centre_dims) if centre and config.condition != "constant" else None
        whole = Composite([adapter, centre]) if centre else adapter
        # The list keeps the base model out of this module's parameters and state dict.
        self._adapted = [AdaptedModule(module, whole)]
        self.register_load_state_dict_pre_hook(_read_older)  # type: ignore[no-untyped-call]

    @property
    def adapted(self) -> AdaptedModule:
        """The base model under updates."""
        return self._adapted[0]

    def values(self, encoded: Tensor, inputs: ContextInputs) -> dict[str, Tensor]:
        """Generate update tensors (B, *shape) from the output of `encode`, without the gain predictor.

        The centre has a separate gate, which is always applied.
        """
        values = super().values(encoded, inputs)
        if self.centre:
            known = self.start(inputs) if self.start else encoded.new_zeros(len(encoded), self.centre.count)
            values["centre"] = known
        return values


def form_adapter(form: str, module: nn.Module, targets: Sequence[str], options: Mapping[str, int]) -> Adapter:
    """Build the adapter of a form. An adapter type is accepted as well.

    Raises:
        InputError: An unknown form or option, or targets that do not fit the module.
    """
    selection = select(module, targets)
    if form in CONFIGS and form not in FORMS:
        return load_config([{"name": form, **options}]).make(selection)  # type: ignore[union-attr]
    if form not in FORMS:
        raise InputError(f"no form is called {form!r}; there are: {', '.join(FORMS)}")
    known = {"codes": {"count": 64}, "lowrank": {"rank": 4}}.get(form, {})
    if unknown := options.keys() - known.keys():
        raise InputError(f"form {form!r} has no option {', '.join(sorted(unknown))}; it has: {list(known)}")
    chosen = known | dict(options)
    if form == "codes":
        return CodesAdapter(selection, chosen["count"])
    if form == "lowrank":
        return LayerLowRank(selection, chosen["rank"])
    return ResidualAdapter(selection) if form == "residual" else FullAdapter(selection)


def _of_layer(name: str) -> str:
    """Rename `LAYER.weight.a` to `LAYER.a`, and `LAYER.weight` (a weight of one axis) to `LAYER.scale`."""
    for suffix, short in ((".weight.a", ".a"), (".weight.b", ".b"), (".weight", ".scale")):
        if name.endswith(suffix):
            return name.removesuffix(suffix) + short
    return name


def _read_older(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Rename the keys of older states, whose adapter is called `edit`."""
    old = f"{prefix}edit."
    for key in [key for key in state if key.startswith(old)]:
        state[f"{prefix}adapter.{key.removeprefix(old)}"] = state.pop(key)
