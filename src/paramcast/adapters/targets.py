"""Selection of the parameters that an update may change, by patterns of names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from paramcast.adapters.errors import TargetError

COMPILED = "_orig_mod"
"""Name under which a module of `torch.compile` holds the compiled module."""


@dataclass(frozen=True)
class Owner:
    """Place of a tensor: a module and an attribute. The tensor may be replaced there at any time."""

    module: nn.Module
    attribute: str

    def __deepcopy__(self, memo: dict[int, object]) -> Owner:
        """Return this owner: a copied adapter changes the same module."""
        return self

    @property
    def tensor(self) -> Tensor:
        """The tensor that is now at this place."""
        held = self.module._parameters.get(self.attribute)
        found = self.module._buffers.get(self.attribute) if held is None else held
        assert found is not None
        return found


@dataclass(frozen=True)
class Selection:
    """Parameters and normalization layers that patterns select from a module.

    Attributes:
        parameters: Canonical dotted name -> place of the parameter; the first of several tied names.
        statistics: Name of a normalization layer with running statistics -> the layer.
    """

    parameters: dict[str, Owner]
    statistics: dict[str, nn.Module]


def select_targets(module: nn.Module, target_modules: Sequence[str]) -> dict[str, nn.Parameter]:
    """Choose the parameters of a module that an update may change.

    A pattern is written as in a shell ('head', 'blocks.*.norm', '*.bias'). It matches names of parameters and
    of modules; the name of a module selects all parameters in it. '!pattern' excludes the parameters that it
    matches. The name of a parametrized or weight-normed weight ('layer.weight') selects the parameters that
    the weight is computed from. '' is the module itself.

    Args:
        module: Any module.
        target_modules: Patterns, at least one without '!'.

    Returns:
        Canonical dotted name -> parameter, in the module's order. A parameter with several names (tied
        weights) occurs once, under its first name.

    Raises:
        TargetError: A pattern matches nothing, or only modules without parameters; or no parameter is left.
    """
    selection = select(module, target_modules)
    if not selection.parameters:
        raise TargetError(
            f"no parameter is left of {_listed(target_modules)}: they match only running statistics, which "
            "NormStatistics() adapts"
        )
    return {name: owner.tensor for name, owner in selection.parameters.items()}  # type: ignore[misc]


def select(module: nn.Module, target_modules: Sequence[str]) -> Selection:
    """Choose parameters and normalization layers; see `select_targets`."""
    patterns = [target_modules] if isinstance(target_modules, str) else list(target_modules)
    if not any(not pattern.startswith("!") for pattern in patterns):
        raise TargetError("target_modules needs at least one pattern that selects something, such as '*'")
    refuse_scripted(module)
    table = _Table(original(module))
    taken, left_out = set[int](), set[int]()
    for pattern in patterns:
        excluding = pattern.startswith("!")
        found = table.matches(pattern.removeprefix("!"))
        if not found:
            raise TargetError(table.why_not(pattern))
        (left_out if excluding else taken).update(found)
    chosen = taken - left_out
    selection = Selection(
        {name: owner for name, owner in table.parameters.items() if id(owner.tensor) in chosen},
        {name: layer for name, layer in table.statistics.items() if id(layer) in chosen},
    )
    if not chosen:
        raise TargetError(f"nothing is left of {_listed(patterns)}: the patterns with '!' exclude all of it")
    return selection


def original(module: nn.Module) -> nn.Module:
    """Return the module inside a module of `torch.compile`; any other module is returned unchanged."""
    while COMPILED in module._modules:
        module = module._modules[COMPILED]  # type: ignore[assignment]
    return module


def plain_name(name: str) -> str:
    """Return a dotted name without the parts that `torch.compile` adds."""
    return ".".join(part for part in name.split(".") if part != COMPILED)


def refuse_scripted(module: nn.Module) -> None:
    """Raise TargetError for scripted and traced modules: their parameters cannot be replaced from outside."""
    for name, each in module.named_modules():
        if isinstance(each, torch.jit.ScriptModule):
            raise TargetError(
                f"{_called(name)} is a scripted or traced module ({each.original_name}), which "
                "cannot be adapted; give the Python module from which it was made, and script or "
                "trace afterwards"
            )


class _Table:
    """Table of all names of a module's parameters and normalization layers."""

    def __init__(self, module: nn.Module) -> None:
        self.modules = {plain_name(name): each for name, each in module.named_modules(remove_duplicate=False)}
        self.parameters: dict[str, Owner] = {}
        self.statistics: dict[str, nn.Module] = {}
        self.unusable: dict[str, str] = {}
        self._names: list[tuple[str, int]] = []  # every name of a parameter, with the parameter's identity
        canonical = dict[int, str]()
        for prefix, each in self.modules.items():
            if COMPILED in each._modules:
                continue
            dot = f"{prefix}." if prefix else ""
            for attribute, parameter in each._parameters.items():
                if parameter is None:
                    continue
                name = dot + attribute
                if problem := _unusable(parameter):
                    self.unusable[name] = problem
                    continue
                self._names.append((name, id(parameter)))
                if id(parameter) not in canonical:
                    canonical[id(parameter)] = name
                    self.parameters[name] = Owner(each, attribute)
                for alias in _aliases(each, attribute):
                    self._names.append((_up(dot, alias), id(parameter)))
            if has_statistics(each) and not any(each is known for known in self.statistics.values()):
                self.statistics[prefix] = each

    def matches(self, pattern: str) -> set[int]:
        """Return the identities of the parameters and normalization layers that a pattern selects."""
        found = {key for name, key in self._names if _takes(pattern, name)}
        for name, layer in self.modules.items():
            if has_statistics(layer) and (_takes(pattern, name) or _takes(pattern, f"{name}.running_mean")):
                found.add(id(layer))
        return found

    def why_not(self, pattern: str) -> str:
        """Explain why a pattern selects nothing."""
        bare = pattern.removeprefix("!")
        for name, problem in self.unusable.items():
            if _takes(bare, name):
                return f"{pattern!r} matches {name}, which cannot be adapted: {problem}"
        found = [(name, each) for name, each in self.modules.items() if name and _matches(bare, name)]
        if found:
            name, each = found[0]
            return (
                f"{pattern!r} matches {name}, a {type(each).__name__} without parameters; {self._near(bare)}"
            )
        return f"{pattern!r} matches no module and no parameter; {self._near(bare)}"

    def _near(self, pattern: str) -> str:
        parameters = [name for name, _ in self._names]
        parents = {
            ".".join(name.split(".")[:end]) for name in parameters for end in range(1, name.count(".") + 1)
        }
        names = [name for name in self.modules if name in parents] + parameters
        near = get_close_matches(pattern, names, 5, 0.5) or names[:8]
        return f"possible names: {', '.join(near)}" if near else "the module has no parameters"


def has_statistics(layer: nn.Module) -> bool:
    """Check whether a layer normalizes by running statistics, such as BatchNorm and InstanceNorm."""
    mean, variance = layer._buffers.get("running_mean"), layer._buffers.get("running_var")
    return mean is not None and variance is not None and mean.shape == variance.shape


def _takes(pattern: str, name: str) -> bool:
    """Check whether a pattern matches a name or a module around it."""
    if pattern == "" or _matches(pattern, name):
        return True
    parts = name.split(".")
    return any(_matches(pattern, ".".join(parts[:end])) for end in range(1, len(parts)))


def _matches(pattern: str, name: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)  # a name itself may hold brackets


def _aliases(module: nn.Module, attribute: str) -> Iterator[str]:
    """Yield the names of the weight that is computed from a parameter; they select the parameter too.

    '^' stands for the weight of a parametrization's layer, two levels above this module; see `_up`.
    """
    if isinstance(module, nn.utils.parametrize.ParametrizationList):
        yield "^"
    for hook in module._forward_pre_hooks.values():  # old weight_norm and spectral_norm, pruning
        weight = getattr(hook, "name", None) or getattr(hook, "_tensor_name", None)
        if isinstance(weight, str) and attribute in {f"{weight}_{end}" for end in ("g", "v", "orig")}:
            yield weight


def _up(dot: str, alias: str) -> str:
    """Return the full name of an alias below a prefix.

    '^' turns `layer.parametrizations.weight.` into `layer.weight`; any other alias is appended to the prefix.
    """
    if alias != "^":
        return dot + alias
    parts = dot.removesuffix(".").split(".")
    return ".".join([*parts[:-2], parts[-1]])


def _unusable(parameter: nn.Parameter) -> str | None:
    if isinstance(parameter, nn.UninitializedParameter):
        return "it has no shape yet; run the module once on real inputs first"
    if not parameter.is_floating_point():
        return f"its numbers are {str(parameter.dtype).removeprefix('torch.')}, not floating point"
    return "it has no elements" if parameter.numel() == 0 else None


def _called(name: str) -> str:
    return repr(name) if name else "the module"


def _listed(patterns: Sequence[str]) -> str:
    return ", ".join(map(repr, [patterns] if isinstance(patterns, str) else patterns))
