"""Make layers of any module dynamic: the same module, now run with the parameters of this device or that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from paramcast.errors import InputError
from paramcast.models.edits import EDITS, Edit
from paramcast.models.edits.base import Shape, Values, slot_of


class Dynamic(nn.Module):
    """A module some of whose layers take their parameters from outside.

    The module is left as it was built: its names, its state dict and its behaviour without values do not
    change. Learned parts of the form (the basis of `codes`) are parameters of `edit`.

    Attributes:
        module: The module itself, shared and not copied.
        edit: The form, over the chosen layers.
        layers: Dotted name -> chosen layer.
    """

    def __init__(self, module: nn.Module, layers: Mapping[str, nn.Module], edit: Edit) -> None:
        super().__init__()
        self.module, self.edit, self.layers = module, edit, dict(layers)
        self._values: Values | None = None
        self._hooks = [layer.register_forward_hook(self._hook(name)) for name, layer in layers.items()]

    @property
    def shapes(self) -> dict[str, Shape]:
        """Package tensors and their shapes."""
        return self.edit.shapes()

    def base_values(self) -> dict[str, Tensor]:
        """Package tensors that leave the module as it is, without a device axis."""
        return self.edit.base_values(self.layers)

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
            return self.edit.apply_to(self.edit.slots[name], layer, inputs[0], output, self._values)

        return edited


def make_dynamic(module: nn.Module, targets: Sequence[str], form: str = "codes", **options: int) -> Dynamic:
    """Choose the layers of `module` whose parameters the cloud makes.

    Args:
        module: Any module with Linear, LayerNorm or Conv2d layers.
        targets: Name patterns as in a shell ('head', 'blocks.*.norm'); a pattern takes the layers that it
            names and, where it names a container, the layers directly or indirectly in it.
        form: One of `paramcast.models.edits.FORMS`.
        options: Of the form: `rank` of lowrank, `count` of codes.

    Raises:
        InputError: An unknown form, a pattern that matches no layer, or a layer that the form cannot edit.
    """
    if form not in EDITS:
        raise InputError(f"no form is called {form!r}; there are: {', '.join(EDITS)}")
    candidates = {name: layer for name, layer in module.named_modules() if _can_be_dynamic(layer)}
    chosen: dict[str, nn.Module] = {}
    for pattern in targets:
        matched = {n: m for n, m in candidates.items() if _matches(n, pattern)}
        if not matched:
            raise InputError(f"no layer matches {pattern!r}; layers that can be: {', '.join(candidates)}")
        chosen |= matched
    try:
        return Dynamic(module, chosen, EDITS[form](chosen, **options))
    except TypeError as error:
        raise InputError(str(error)) from error


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _can_be_dynamic(layer: nn.Module) -> bool:
    try:
        slot_of("", layer)
    except TypeError:
        return False
    return True
