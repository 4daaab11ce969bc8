"""Check of a wrapped module: updates act as defined, reach the output, and devices do not mix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from paramcast.adapters.errors import CheckError
from paramcast.adapters.trees import Inputs, arguments, floats_of, signature, tensors_of

if TYPE_CHECKING:
    from paramcast.adapters.adapted import AdaptedModule, Mode

DEVICES = 3
"""Number of devices in a compared batch. With two, the halves of a batch could be the devices by chance."""
TOLERANCE = 1e-4
"""Largest deviation between a batch and each device alone, as a share of the output's scale."""
_HALF = {torch.bfloat16: 8.0 * 2**-8, torch.float16: 8.0 * 2**-11}


@dataclass(frozen=True)
class CheckReport:
    """Results of the check.

    Attributes:
        mode: The fastest mode whose outputs agree with the definition.
        targets: Number of targets; all of them reach the output.
        adapted: Count of the numbers in the targets.
        generated: Count of the numbers in an update.
        effect: Change of the output under random values, as a share of its scale.
        errors: Mode -> largest deviation from the definition as a share of the output's scale, or the reason
            why the mode cannot be used.
    """

    mode: Mode
    targets: int
    adapted: int
    generated: int
    effect: float
    errors: dict[str, float | str] = field(default_factory=dict)


def check(adapted: AdaptedModule, inputs: Sequence[Inputs]) -> CheckReport:
    """Run the checks that `AdaptedModule.check` describes."""
    if not inputs:
        raise CheckError("the check needs the inputs of at least one device")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        _check_base(adapted, inputs[0])
        _check_reach(adapted, inputs)
        _check_gradient(adapted, inputs[0])
        devices = _alike(inputs)
        with torch.no_grad():
            values, alone, effect = _moved(adapted, devices)
            errors: dict[str, float | str] = {}
            mode: Mode = "loop"
            tolerance = _tolerance(alone)
            for candidate in ("fast", "vmap"):
                if candidate == "fast" and tolerance > TOLERANCE:
                    errors["fast"] = "the module's numbers are too coarse for the check"
                    continue
                errors[candidate] = _compared(adapted, candidate, devices, values, alone)
                if isinstance(errors[candidate], float) and errors[candidate] <= tolerance:  # type: ignore[operator]
                    mode = candidate
                    break
    targets = adapted.adapter.targets
    return CheckReport(
        mode,
        len(targets),
        sum(target.numel() for target in targets.values()),
        sum(value.numel() for value in adapted.adapter.base_values().values()),
        effect,
        errors,
    )


def _check_base(adapted: AdaptedModule, inputs: Inputs) -> None:
    """Raise unless the module is deterministic and base values leave its output unchanged."""
    with torch.no_grad():
        plain = _seeded(lambda: adapted(inputs))
        again = _seeded(lambda: adapted(inputs), seed=1)
        based = _seeded(lambda: adapted(inputs, adapted.adapter.base_values()))
    if not floats_of(plain):
        raise CheckError(
            f"the output of {_kind(adapted)} holds no tensor of floating point numbers, so nothing "
            "can be learned; return logits or scores instead of decisions"
        )
    if any(torch.isnan(each).any() for each in floats_of(plain)):
        raise CheckError(f"the output of {_kind(adapted)} holds NaN before any update")
    if difference(plain, again) > 0:
        raise CheckError(
            f"{_kind(adapted)} gives other outputs for the same inputs each time: it draws random "
            "numbers or keeps a state; make everything that changes from call to call an input"
        )
    error = difference(plain, based)
    if error > _tolerance([plain]):
        raise CheckError(
            f"base values change the output of {_kind(adapted)} by {error:.2g} of its scale; it should not "
            "change: does its forward write to its own parameters?"
        )


def _check_reach(adapted: AdaptedModule, inputs: Sequence[Inputs]) -> None:
    """Raise unless every target has a gradient, at the base or at randomly moved parameters."""
    targets = adapted.adapter.targets
    left = _without_gradient(adapted, inputs[:DEVICES], {}, set(targets))
    for seed, share in ((1, 0.1), (2, 0.5), (3, 1.0)):  # for targets behind zeros, gates and dead units
        if left:
            left = _without_gradient(adapted, inputs[:DEVICES], _randomly_moved(adapted, seed, share), left)
    if not left:
        return
    names = [name for name in targets if name in left]
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    if len(names) == len(targets):
        raise CheckError(
            f"no target reaches the output of {_kind(adapted)}: {shown}. Does its forward run under no_grad, "
            "detach its output, or hold another module in a closure (a compiled or patched function)?"
        )
    out = ", ".join(repr(f"!{name}") for name in _shortest(names, set(targets))[:6])
    raise CheckError(
        f"these targets cannot reach the output of {_kind(adapted)}, so an update of them would "
        f"change nothing: {shown}; leave them out with {out} in target_modules"
    )


class _Inside(nn.Module):
    """Wrapper that computes gradients while `functional_call` holds the targets in their places."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, leaves: Sequence[Tensor], args: Any, kwargs: Any) -> list[Tensor | None]:
        """Compute the gradients of a weighted sum of the outputs."""
        return _gradients(self.module(*args, **kwargs), leaves)


def _check_gradient(adapted: AdaptedModule, inputs: Inputs) -> None:
    """Raise where the backward pass would run parts of the module again.

    The backward pass comes after the call, when the base's parameters are in the targets' places again.
    Gradient checkpointing would compute with these.
    """
    targets = adapted.adapter.targets
    moved = {
        name: value.requires_grad_() for name, value in _randomly_moved(adapted).items() if name in targets
    }
    leaves = list(moved.values())
    args, kwargs = arguments(inputs)
    torch.manual_seed(0)
    with adapted.calling(statistics=True):
        wrapped = {f"module.{name}": value for name, value in moved.items()}
        inside = functional_call(_Inside(adapted.replica), wrapped, (leaves, args, kwargs), tie_weights=True)
    torch.manual_seed(0)
    outside = _gradients(adapted.run(inputs, moved), leaves)
    known = [each for each in zip(inside, outside, strict=True) if each[0] is not None]
    if not known:
        return
    if any(b is None for _, b in known) or difference(*map(list, zip(*known, strict=True))) > 1e-2:
        raise CheckError(
            f"{_kind(adapted)} computes parts of itself again in the backward pass, where the "
            "parameters are different: switch gradient checkpointing off"
        )


def _gradients(outputs: Any, leaves: Sequence[Tensor]) -> list[Tensor | None]:
    """Compute the gradients of a weighted sum of magnitudes; the plain sum of a softmax is constant."""
    found = [x for x in floats_of(outputs) if x.requires_grad]
    if not found:
        return [None] * len(leaves)
    draws = torch.Generator().manual_seed(2)
    total = sum((x * torch.randn(x.shape, generator=draws).to(x)).abs().sum() for x in found)
    return list(torch.autograd.grad(total, list(leaves), allow_unused=True))  # type: ignore[arg-type]


def _without_gradient(
    adapted: AdaptedModule, inputs: Sequence[Inputs], moved: dict[str, Tensor], names: set[str]
) -> set[str]:
    """Return the names of the targets that have no gradient, or a gradient of zeros.

    Args:
        adapted: The adapted module.
        inputs: Inputs of each device.
        moved: Name -> value that replaces a parameter.
        names: Names of the targets to look at.
    """
    left = set(names)
    for each in inputs:
        if not left:
            break
        leaves = {
            name: moved.get(name, target).detach().clone().requires_grad_()
            for name, target in adapted.adapter.targets.items()
            if name in left
        }
        held = {name: value for name, value in moved.items() if name not in leaves}
        torch.manual_seed(0)
        try:
            found = _gradients(adapted.run(each, held | leaves), list(leaves.values()))
        except RuntimeError as error:
            raise CheckError(f"no gradient passes through {_kind(adapted)}: {error}") from error
        for name, gradient in zip(leaves, found, strict=True):
            if gradient is not None and bool((gradient != 0).any()):
                left.discard(name)
    return left


def _randomly_moved(adapted: AdaptedModule, seed: int = 1, share: float = 0.1) -> dict[str, Tensor]:
    """Add noise to all parameters of the module and to the targets.

    The standard deviation of the noise is `share` of a parameter's root mean square, and at least 0.02.
    """
    draws = torch.Generator().manual_seed(seed)
    moved = {}
    named = dict(adapted.replica.named_parameters()) | adapted.adapter.targets
    for name, tensor in named.items():
        if not tensor.is_floating_point():
            continue
        size = max(share * float(tensor.detach().float().square().mean().sqrt()), 0.02)
        noise = (size * torch.randn(tensor.shape, generator=draws)).to(tensor.device, tensor.dtype)
        if name.endswith("running_var"):
            noise = noise.abs()
        moved[name] = tensor.detach() + noise
    return moved


def _alike(inputs: Sequence[Inputs]) -> list[Inputs]:
    """Return inputs of the same shapes for DEVICES devices; inputs are repeated where there are too few."""
    first = signature(inputs[0])
    same = [each for each in inputs if signature(each) == first]
    return [same[i % len(same)] for i in range(DEVICES)]


def _moved(adapted: AdaptedModule, devices: Sequence[Inputs]) -> tuple[dict[str, Tensor], list[Any], float]:
    """Draw random values that move the output of each device clearly.

    Returns:
        The values of the devices, each device's output when it runs alone, and the smallest change of an
        output.
    """
    plain = [_seeded(lambda each=each: adapted(each)) for each in devices]
    for size in (1.0, 4.0, 16.0, 64.0):
        each = [adapted.adapter.probe_values(seed, size) for seed in range(len(devices))]
        values = {name: torch.stack([own[name] for own in each]) for name in each[0]}
        alone = [_seeded(lambda x=x, own=own: adapted(x, own)) for x, own in zip(devices, each, strict=True)]
        effect = min(difference(before, after) for before, after in zip(plain, alone, strict=True))
        if effect > 20 * _tolerance(alone):
            break
    if not effect > 0:
        raise CheckError(f"random updates do not change the output of {_kind(adapted)} at all")
    return values, alone, effect


def _compared(
    adapted: AdaptedModule,
    mode: Mode,
    devices: Sequence[Inputs],
    values: dict[str, Tensor],
    alone: Sequence[Any],
) -> float | str:
    """Return the deviation of a mode from the definition, or the reason why the mode cannot be used."""
    try:
        together = _seeded(lambda: adapted.in_mode(mode, devices, values))
    except Exception as error:  # any error rules the mode out: no rule, a shape, a branch
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
    return max(difference(one, other) for one, other in zip(alone, together, strict=True))


def difference(wanted: Any, found: Any) -> float:
    """Compute the largest deviation between the tensors of two trees, as a share of each tensor's scale."""
    ours, theirs = tensors_of(wanted), tensors_of(found)
    if len(ours) != len(theirs) or any(a.shape != b.shape for a, b in zip(ours, theirs, strict=True)):
        return float("inf")
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if not a.numel():
            continue
        a, b = (x.detach().to(torch.complex128 if x.is_complex() else torch.float64) for x in (a, b))
        off = float(torch.where(a == b, 0.0, (a - b).abs()).max())  # equal -inf: 0, not NaN
        scale = float(torch.where(a.isfinite(), a.abs(), 0.0).max())
        worst = max(worst, off / max(scale, 1e-12) if off == off else float("inf"))
    return worst


def _tolerance(outputs: Sequence[Any]) -> float:
    coarse = [_HALF[x.dtype] for each in outputs for x in floats_of(each) if x.dtype in _HALF]
    return max([TOLERANCE, *coarse])


def _seeded(call: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return call()


def _kind(adapted: AdaptedModule) -> str:
    return type(adapted.module).__name__


def _shortest(names: Sequence[str], targets: set[str]) -> list[str]:
    """Replace names by modules where all targets of a module are among the names."""
    left, found = set(names), []
    for name in names:
        if name not in left:
            continue
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            prefix = ".".join(parts[:end])
            inside = {each for each in targets if each == prefix or each.startswith(f"{prefix}.")}
            if inside <= set(names):
                found.append(prefix)
                left -= inside
                break
    return found
