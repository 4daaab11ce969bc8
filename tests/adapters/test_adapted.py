"""The adapted module: what users' modules do, that used to be silently wrong or refused."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from truth import adapted, hooks_of, run, written

from paramcast.adapters import (
    AdaptedModule,
    Basis,
    CheckError,
    CheckReport,
    Full,
    NormStatistics,
    Residual,
)
from paramcast.adapters.checking import difference


def stacked(each: AdaptedModule, devices: int) -> dict[str, Tensor]:
    made = [each.adapter.probe_values(seed) for seed in range(devices)]
    return {name: torch.stack([own[name] for own in made]) for name in made[0]}


def shown(each: AdaptedModule, inputs: list[Any]) -> CheckReport:
    """The check, then: a batch of devices is each device alone, which is the edit written into the module."""
    report = each.check(inputs)
    values = stacked(each, len(inputs))
    together = each.batched(inputs, values)
    for device, x in enumerate(inputs):
        own = {name: value[device] for name, value in values.items()}
        truth = run(written(each.module, each.adapter, own), x)
        assert difference(truth, each(x, own)) < 1e-4
        assert difference(truth, together[device]) < 1e-4
        base = run(written(each.module, each.adapter, each.adapter.base_values()), x)
        assert difference(base, truth) > 1e-3
    return report


def test_rows_of_devices_do_not_mix_where_time_comes_first() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    each = adapted(layer, config=Residual())
    shown(each, [torch.randn(6, 4, 8) for _ in range(3)])


def test_devices_of_unlike_sizes_each_get_their_own() -> None:
    torch.manual_seed(0)
    each = adapted(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))
    inputs = [torch.randn(rows, 3) for rows in (4, 2, 4, 1)]
    assert shown(each, inputs).mode != "loop"


def test_a_gradient_reaches_the_values_and_the_basis_in_every_mode() -> None:
    torch.manual_seed(0)
    each = adapted(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))
    inputs = [torch.randn(4, 3) for _ in range(3)]
    found = {}
    for each.mode in ("vmap", "loop"):
        each.adapter.zero_grad()
        values = {"codes": torch.full((3, 4), 0.3).requires_grad_()}
        torch.stack(each.batched(inputs, values)).square().sum().backward()
        found[each.mode] = [values["codes"].grad, *(p.grad for p in each.adapter.parameters())]
    for one, other in zip(found["vmap"], found["loop"], strict=True):
        assert one is not None
        assert (one != 0).any()
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_running_statistics_get_a_gradient() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.InstanceNorm1d(4, track_running_stats=True))
    each = adapted(net, config=(Basis(4), NormStatistics()))
    inputs = [torch.randn(2, 3, 8) for _ in range(3)]
    shown(each, inputs)
    values = {name: value.requires_grad_() for name, value in stacked(each, 3).items()}
    torch.stack(each.batched(inputs, values)).square().sum().backward()
    assert all((value.grad != 0).any() for value in values.values())  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_layers(kind: type[nn.RNNBase], batch_first: bool) -> None:
    torch.manual_seed(0)
    each = adapted(kind(3, 4, batch_first=batch_first, bidirectional=True))
    assert shown(each, [torch.randn(3, 3, 3) for _ in range(3)]).mode == "loop"


def test_the_users_module_is_untouched() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flags = [part.training for part in net.modules()]
    each = adapted(net)
    inputs = [torch.randn(4, 3) for _ in range(3)]
    shown(each, inputs)
    assert hooks_of(net) == 0
    assert [part.training for part in net.modules()] == flags
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert pickle.loads(pickle.dumps(net))(inputs[0]).shape == (4, 2)
    assert copy.deepcopy(net)(inputs[0]).shape == (4, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert torch.jit.script(net)(inputs[0]).shape == (4, 2)


def test_a_batch_norm_in_training_mode_does_not_mix_rows() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).train()
    each = adapted(net, "0")
    x, values = torch.randn(4, 3), each.adapter.probe_values()
    torch.testing.assert_close(each(x[:1], values), each(x, values)[:1])
    assert int(net[1].num_batches_tracked) == 0  # type: ignore[arg-type]


def test_a_change_of_the_base_is_followed() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.GRU(4, 2, batch_first=True)).eval()
    each = adapted(net, config=(Residual(), NormStatistics()))
    x = torch.randn(2, 3)
    with torch.no_grad():
        net[0].weight.add_(1.0)
    net[0].bias = nn.Parameter(torch.ones(4))
    net[1].running_mean = torch.ones(4)
    net[2].weight_ih_l0 = nn.Parameter(torch.ones(6, 4))
    torch.testing.assert_close(each(x)[0], net(x)[0])
    values = each.adapter.probe_values()
    torch.testing.assert_close(each(x, values)[0], written(net, each.adapter, values)(x)[0])


def test_two_threads_with_two_updates_each_get_their_own_answers() -> None:
    torch.manual_seed(0)
    each = adapted(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)))
    x = torch.randn(5, 4)
    updates = [each.adapter.probe_values(seed) for seed in range(2)]
    wanted, wrong = [each(x, own) for own in updates], []

    def ask(which: int) -> None:
        for _ in range(100):
            if not torch.equal(each(x, updates[which]), wanted[which]):
                wrong.append(which)

    threads = [threading.Thread(target=ask, args=(which,)) for which in (0, 1, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    torch.testing.assert_close(each(x), each.module(x), atol=0, rtol=0)


@pytest.mark.parametrize("where", ["root", "child"])
def test_a_module_that_was_compiled_and_has_run_is_adapted(where: str) -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    net: Any = nn.Sequential(inner, nn.Linear(4, 2))
    x = torch.randn(4, 3)
    if where == "root":
        net = torch.compile(net, backend="eager")
    else:
        net[0] = torch.compile(inner, backend="eager")
    net(x)
    each = adapted(net, "0")
    assert list(each.adapter.targets) == ["0.0.weight", "0.0.bias"]
    each.check([x])
    values = each.adapter.probe_values()
    last = net[1] if where == "child" else net._orig_mod[1]
    plain = nn.Sequential(copy.deepcopy(inner), copy.deepcopy(last))
    torch.testing.assert_close(each(x, values), written(plain, each.adapter, values)(x))
    torch.testing.assert_close(net(x), plain(x))


class ReadNotCalled(nn.Module):
    """Reads a weight, calls another layer's forward, and has a packed attention."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.called = nn.Linear(4, 4), nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.called.forward(F.linear(x, self.read.weight, self.read.bias))
        return self.attention(y, y, y)[0]


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 0.3 * F.linear(x, self.weight - self.weight.mean(), self.bias)


class Causal(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (2, 0)))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layer = nn.utils.weight_norm(nn.Linear(4, 3))
    layer(torch.randn(2, 4))  # leaves a computed weight in the layer
    return nn.Sequential(layer)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        pytest.param(ReadNotCalled(), (3, 5, 4), id="read, not called"),
        pytest.param(Scaled(4, 3), (3, 4), id="Linear with its own forward"),
        pytest.param(Causal(4, 3, 3), (3, 4, 7), id="Conv1d with its own forward"),
        pytest.param(LayerNorm2d(5), (3, 5, 5, 5), id="LayerNorm2d where W == C"),
        pytest.param(Tied(), (3, 4), id="tied"),
        pytest.param(old_weight_norm(), (3, 4), id="weight norm of old"),
        pytest.param(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), (3, 4), id="weight norm"),
        pytest.param(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)), (3, 4), id="spectral norm"),
        pytest.param(nn.utils.parametrizations.orthogonal(nn.Linear(4, 3)), (3, 4), id="orthogonal"),
        pytest.param(
            nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.GroupNorm(3, 6)), (3, 4, 5, 5), id="groups"
        ),
        pytest.param(nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.PReLU()), (3, 4, 5, 5), id="transposed"),
        pytest.param(nn.Sequential(nn.Linear(4, 6), nn.RMSNorm(6)), (3, 4), id="RMSNorm"),
        pytest.param(nn.Bilinear(4, 4, 3), None, id="Bilinear"),
    ],
)
@pytest.mark.parametrize("config", [Basis(4), Residual(), Full()], ids=["basis", "residual", "full"])
def test_layers_are_what_their_own_forward_says(net: nn.Module, shape: Any, config: Any) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(shape) if shape else (torch.randn(3, 4), torch.randn(3, 4)) for _ in range(3)]
    shown(adapted(net, config=config), inputs)


class Named(nn.Module):
    """Keyword-only inputs of two modalities, one of which may be missing; a dictionary of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.sound = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, *, image: Tensor, sound: Tensor | None = None) -> dict[str, Any]:
        fused = self.image(image)
        if sound is not None:
            fused = fused + self.sound(sound)
        return {"logits": fused, "parts": (image, None, [fused.argmax(-1)])}


class OfDictionary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.layer(input=batch["x"])


def test_keywords_dictionaries_and_missing_modalities() -> None:
    torch.manual_seed(0)
    full = [{"image": torch.randn(2, 4), "sound": torch.randn(2, 2)} for _ in range(3)]
    each = adapted(Named())
    shown(each, full)
    values = stacked(each, 4)
    mixed = [*full, {"image": torch.randn(3, 4)}]
    outputs = each.batched(mixed, values)
    assert outputs[3]["logits"].shape == (3, 3)
    assert outputs[0]["parts"][1] is None
    assert outputs[0]["parts"][2][0].dtype == torch.int64
    shown(adapted(OfDictionary()), [({"x": torch.randn(2, 4)},) for _ in range(3)])


class Detections(nn.Module):
    """Lists of images of unlike sizes in, lists of dictionaries out."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes = nn.Linear(3, 4)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [{"boxes": self.boxes(image), "count": torch.tensor(len(image))} for image in images]


def test_detection_like_outputs_of_ragged_inputs() -> None:
    torch.manual_seed(0)
    shown(adapted(Detections()), [([torch.randn(2, 3), torch.randn(rows, 3)],) for rows in (1, 4, 1)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_modules(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3)).to(dtype)
    each = adapted(net)
    inputs = [torch.randn(5, 4, dtype=dtype) for _ in range(3)]
    each.check(inputs)
    values = each.adapter.probe_values()
    found = each(inputs[0], values)
    assert found.dtype == dtype
    assert torch.equal(found, written(net, each.adapter, values)(inputs[0]))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        def part(y: Tensor) -> Tensor:
            return self.second(self.first(y).tanh())

        y: Tensor = checkpoint(part, x, use_reentrant=self.reentrant)
        return y


class Flagged(Checkpointed):
    """As in transformers: a flag, and checkpoints in training alone or always."""

    gradient_checkpointing = True

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.gradient_checkpointing else self.second(self.first(x).tanh())


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_is_switched_off_or_refused(reentrant: bool) -> None:
    torch.manual_seed(0)
    with pytest.raises(CheckError, match="Checkpointed"):
        adapted(Checkpointed(reentrant)).check([torch.randn(3, 4)])
    net = Flagged(reentrant)
    net.gradient_checkpointing = True
    shown(adapted(net), [torch.randn(3, 4) for _ in range(3)])
    assert net.gradient_checkpointing
