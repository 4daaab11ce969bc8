"""The training loop. It continues after a SIGKILL, and its result is then the same as without the SIGKILL."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from paramcast.errors import ParamcastError
from paramcast.files import replacing
from paramcast.training.parallel import bar_line
from paramcast.training.seeding import seed_from
from paramcast.training.team import ALONE, Team


class TrainingDivergedError(ParamcastError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class Schedule:
    """Number of steps, and learning rates.

    Attributes:
        steps: Total number of optimizer steps.
        every: Steps between two validations; checkpoints are written at the validations.
        rate: Peak learning rate of AdamW: linear warm-up over a tenth of the steps, then half a cosine to 0.
        decay: Weight decay.
    """

    steps: int
    every: int
    rate: float = 1e-3
    decay: float = 0.05

    def rate_at(self, step: int) -> float:
        """Compute the learning rate of a step in [0, steps)."""
        warm = max(1, self.steps // 10)
        if step < warm:
            return self.rate * (step + 1) / warm
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread while the block runs: with small layers, more threads wait longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    name: str,
    module: nn.Module,
    loss: Callable[[np.random.Generator], Tensor],
    validate: Callable[[], float],
    schedule: Schedule,
    seed: int,
    checkpoint: Path,
    *,
    may_stay: bool = True,
    team: Team = ALONE,
) -> float:
    """Train the parameters of `module`, which ends in its best state by `validate`, in evaluation mode.

    Each step has its own random generator, from the seed and the step's number. So a run that is killed and
    started again takes the same steps as a run that is not killed.

    Args:
        name: Name in the progress bar; also a part of the seed.
        module: Trained in place.
        loss: Computes the loss () of one step; it draws random numbers from the given generator.
        validate: Computes the validation score; higher is better.
        schedule: Steps and rates.
        seed: Seed of the run.
        checkpoint: File from which the run continues; written atomically every `schedule.every` steps.
        may_stay: Whether the state before the first step may be the best.
        team: The processes that average their gradients. All start from the same `module`, and can read the
            checkpoint.

    Returns:
        The best validation score.

    Raises:
        TrainingDivergedError: The loss became infinite or NaN.
    """
    trained = {key: value for key, value in module.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=schedule.rate, weight_decay=schedule.decay, fused=True)
    others = (team.rank,) if team.rank else ()
    step, best, state = 0, -math.inf, module.state_dict()
    if checkpoint.exists():
        step, best, state = _restore(checkpoint, module, trained, optimizer)
    elif may_stay:
        best, state = _validated(module, validate, best, state, team)
    with tqdm(
        total=schedule.steps, initial=step, desc=name, unit="step", disable=None, position=bar_line()
    ) as bar:
        while step < schedule.steps:
            rng = np.random.default_rng(seed_from("step", name, seed, step, *others))
            torch.manual_seed(int(rng.integers(2**62)))
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate_at(step)
            module.train()
            value = loss(rng)
            if not math.isfinite(value.item()):
                raise TrainingDivergedError(
                    f"{name}: the loss is {value.item()} at step {step}; lower the rate"
                )
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            team.average_gradients(trained.values())
            nn.utils.clip_grad_norm_(trained.values(), 1.0)
            optimizer.step()
            step += 1
            bar.update()
            if step % schedule.every == 0 or step == schedule.steps:
                best, state = _validated(module, validate, best, state, team)
                bar.set_postfix(loss=f"{value.item():.3f}", best=f"{best:.3f}")
                if team.rank == 0:
                    _save(checkpoint, step, best, state, trained, module, optimizer)
    module.load_state_dict(state)
    module.eval()
    return best


def load_fitted(checkpoint: Path, module: nn.Module) -> float:
    """Load the best state of a finished `fit`, also of another process, into the module, in evaluation mode.

    Returns:
        The best validation score.
    """
    tensors = load_file(checkpoint)
    module.load_state_dict(_below(tensors, "best/"))
    module.eval()
    return float(tensors["progress"][1])


def _validated(
    module: nn.Module, validate: Callable[[], float], best: float, state: dict[str, Tensor], team: Team
) -> tuple[float, dict[str, Tensor]]:
    module.eval()
    with torch.no_grad():
        score = team.agreed(validate())
    if score <= best:
        return best, state
    return score, {key: value.detach().clone() for key, value in module.state_dict().items()}


def _save(
    path: Path,
    step: int,
    best: float,
    state: dict[str, Tensor],
    trained: dict[str, nn.Parameter],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    tensors = {f"best/{key}": value for key, value in state.items()}
    tensors |= {f"now/{key}": value for key, value in module.state_dict().items()}
    for key, parameter in trained.items():
        for moment, value in optimizer.state[parameter].items():
            tensors[f"optimizer/{moment}/{key}"] = value
    tensors["progress"] = torch.tensor([step, best], dtype=torch.float64)
    with replacing(path) as temporary:
        save_file({key: value.detach().clone().contiguous() for key, value in tensors.items()}, temporary)


def _restore(
    path: Path, module: nn.Module, trained: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[int, float, dict[str, Tensor]]:
    tensors = load_file(path)
    module.load_state_dict(_below(tensors, "now/"))
    for key, parameter in trained.items():
        moments = {
            name.split("/")[1]: value
            for name, value in tensors.items()
            if name.startswith("optimizer/") and name.split("/", 2)[2] == key
        }
        if moments:
            optimizer.state[parameter] = moments
    step, best = tensors["progress"].tolist()
    return int(step), best, _below(tensors, "best/")


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
