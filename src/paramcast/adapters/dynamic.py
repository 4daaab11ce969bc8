"""Make layers of any module dynamic: the same module, now run with the parameters of this device or that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from paramcast.adapters.edits import EDITS, Edit
from paramcast.adapters.edits.base import Shape, Values, slot_of
from paramcast.adapters.edits.centre import Centre
from paramcast.errors import InputError


class Dynamic(nn.Module):
    """A module some of whose layers take their parameters from outside.

    The module is left as it was built: its names, its state dict and its behavior without values do not
    change. Learned parts of the form (the basis of `codes`) are parameters of `edit`.

    Attributes:
        module: The module itself, shared and not copied.
        edit: The form, over the chosen layers.
        layers: Dotted name -> chosen layer.
        centre: The centre of some of the layers, None where there is none.
    """

    def __init__(
        self, module: nn.Module, layers: Mapping[str, nn.Module], edit: Edit, centre: Centre | None = None
    ) -> None:
        super().__init__()
        self.module, self.edit, self.layers, self.centre = module, edit, dict(layers), centre
        self._values: Values | None = None
        self._hooks = [layer.register_forward_hook(self._hook(name)) for name, layer in layers.items()]

    @property
    def shapes(self) -> dict[str, Shape]:
        """Package tensors and their shapes."""
        return self.edit.shapes() | (self.centre.shapes() if self.centre else {})

    def base_values(self) -> dict[str, Tensor]:
        """Package tensors that leave the module as it is, without a device axis."""
        values = self.edit.base_values(self.layers)
        if self.centre:
            values["centre"] = torch.zeros(self.centre.count)
        return values

    def forward(self, *args: Any, values: Values | None = None, **kwargs: Any) -> Any:
        """Run the module under `values`; see `use`."""
        with self.use(values):
            return self.module(*args, **kwargs)

    @contextmanager
    def use(self, values: Values | None) -> Iterator[None]:
        """Run the module with `values`: package tensor -> (B, *shape); None is the base model.

        Inputs of the dynamic layers must be device-major: a first axis that is a multiple of B. Values
        without the device axis are for all rows.
        """
        before, self._values = self._values, values
        try:
            yield
        finally:
            self._values = before

    def remove(self) -> None:
        """Take the hooks off: the module is as it was before `make_dynamic`."""
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
        def edited(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if self._values is None:
                return None
            output = self.edit(name, layer, inputs[0], output, self._values)
            return self.centre(self.edit.slots[name], output, self._values) if self.centre else output

        return edited


def make_dynamic(
    module: nn.Module,
    targets: Sequence[str],
    form: str = "codes",
    centred: Sequence[str] = (),
    directions: int = 16,
    **options: int,
) -> Dynamic:
    """Choose the layers of `module` whose parameters the cloud makes.

    Args:
        module: Any module with Linear, LayerNorm, Conv1d, Conv2d or Conv3d layers.
        targets: Name patterns as in a shell ('head', 'blocks.*.norm'); a pattern takes the layers that it
            names and, where it names a container, the layers directly or indirectly in it. With '.bias'
            behind it, it takes of these layers the biases alone.
        form: One of `paramcast.adapters.edits.FORMS`.
        centred: Names of chosen layers whose input's mean a package can take away.
        directions: Of the centre, for all of these layers together.
        options: Of the form: `rank` of lowrank, `count` of codes.

    Raises:
        InputError: An unknown form, a pattern that matches no layer, or a layer that the form cannot edit.
    """
    if form not in EDITS:
        raise InputError(f"no form is called {form!r}; there are: {', '.join(EDITS)}")
    candidates = {name: layer for name, layer in module.named_modules() if _can_be_dynamic(layer)}
    whole, biases = set[str](), set[str]()
    for pattern in targets:
        matched = {name for name in candidates if _matches(name, pattern.removesuffix(".bias"))}
        if not matched:
            raise InputError(f"no layer matches {pattern!r}; layers that can be: {', '.join(candidates)}")
        (biases if pattern.endswith(".bias") else whole).update(matched)
    chosen = {name: layer for name, layer in candidates.items() if name in whole | biases}
    if unknown := [name for name in centred if name not in chosen or chosen[name].bias is None]:
        raise InputError(f"centred layers are chosen ones that have a bias; not so: {', '.join(unknown)}")
    try:
        edit = EDITS[form](chosen, biases - whole, **options)
    except TypeError as error:
        raise InputError(str(error)) from error
    centre = Centre({name: edit.slots[name] for name in centred}, directions) if centred else None
    return Dynamic(module, chosen, edit, centre)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _can_be_dynamic(layer: nn.Module) -> bool:
    try:
        slot_of("", layer)
    except TypeError:
        return False
    return True
