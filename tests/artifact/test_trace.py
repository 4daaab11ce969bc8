"""A module as a graph: every target is an input, and the graph gives what the module gives."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from worlds import CASES, ConvNet, TwoModalities

from paramcast.artifact.errors import ExportError
from paramcast.artifact.onnx_file import read_graph
from paramcast.artifact.trace import CONTEXT, IR_VERSION, OPSET, distance, session, trace


def parameters(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters())


def test_versions_are_pinned_and_every_target_is_a_required_input() -> None:
    module = ConvNet()
    targets = parameters(module) | {"norm.running_var": module.norm.running_var}
    traced = trace(module, torch.randn(4, 3, 8, 8), targets)
    graph = read_graph(traced.graph)
    model = onnx.load_from_string(traced.graph)
    assert (graph.opset, graph.opset <= OPSET, graph.ir_version <= IR_VERSION) == (OPSET, True, True)
    assert [entry.domain for entry in model.opset_import] == [""]
    assert set(graph.inputs) == {"image", *targets}
    assert not graph.initializers & set(targets)
    assert graph.inputs["image"].shape == (None, 3, 8, 8)
    onnx.checker.check_model(model, full_check=True)


def test_the_module_is_left_as_it_was() -> None:
    module = ConvNet().train()
    before = copy.deepcopy(module.state_dict())
    trace(module, torch.randn(2, 3, 8, 8), parameters(module))
    assert module.training
    assert all(isinstance(value, nn.Parameter) for value in parameters(module).values())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not module._forward_hooks


def test_the_same_module_gives_the_same_bytes() -> None:
    torch.manual_seed(3)
    module, x = ConvNet(), torch.randn(3, 3, 8, 8)
    assert trace(module, x, parameters(module)).graph == trace(module, x, parameters(module)).graph


def test_names_and_structure_are_those_of_forward() -> None:
    traced = trace(TwoModalities(), CASES["two"][1](), {})
    assert traced.call == "keyword"
    assert traced.arguments == {"image": "image", "sound": "sound"}
    assert traced.structure == {"logits": "logits", "parts": ["parts.0", "parts.1"]}
    assert [(spec.name, spec.dtype, spec.shape) for spec in traced.outputs] == [
        ("logits", "float32", (None, 4)),
        ("parts.0", "float32", (None, 8)),
        ("parts.1", "int64", (None,)),
    ]


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, batch: dict[str, Any]) -> Any:
        left, right = batch["pair"]
        return self.layer(left + right), {"input": batch["mask"]}


def test_arguments_may_be_nested() -> None:
    batch = {"pair": [torch.randn(3, 3), torch.randn(3, 3)], "mask": torch.ones(3, 4)}
    traced = trace(Nested(), (batch,), {})
    assert traced.arguments == [{"pair": ["batch.pair.0", "batch.pair.1"], "mask": "batch.mask"}]
    assert traced.structure == ["output_0", {"input": "output_1.input"}]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_written_as_float32(dtype: torch.dtype) -> None:
    module = ConvNet().to(dtype)
    traced = trace(module, torch.randn(4, 3, 8, 8, dtype=dtype), parameters(module))
    assert {value.dtype for value in read_graph(traced.graph).inputs.values()} == {"float32"}
    assert module.conv.weight.dtype == dtype


def test_a_part_s_output_can_be_tapped() -> None:
    module, x = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), torch.randn(4, 3)
    traced = trace(module, x, parameters(module), tap="1")
    assert traced.context is not None
    assert traced.context.shape == (None, 5)
    feed = {traced.arguments: x.numpy()} | {n: v.detach().numpy() for n, v in parameters(module).items()}
    (features,) = session(traced.graph).run([CONTEXT], feed)
    assert distance(torch.tanh(module[0](x)).detach().numpy(), features) < 1e-6
    with pytest.raises(ExportError, match="no part 'body'"):
        trace(module, x, {}, tap="body")


def test_further_axes_are_free_where_they_are_told() -> None:
    module, x = CASES["gru"][0](), torch.randn(4, 9, 4)
    assert trace(module, x, {}).inputs[0].shape == (None, 9, 4)
    assert trace(module, x, {}, sizes={"signal": {1: "time"}}).inputs[0].shape == (None, None, 4)
    with pytest.raises(ExportError, match="does not exist"):
        trace(module, x, {}, sizes={"x": {1: "time"}})


class Drops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, training=True)


class Unread(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class Sorts(nn.Module):
    """Computes outside of torch, which no graph can."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.from_numpy(np.sort(x.numpy(), axis=0))


@pytest.mark.parametrize(
    ("module", "inputs", "targets", "message"),
    [
        (Drops(), torch.ones(3, 50), (), "random in evaluation mode"),
        (Unread(), torch.ones(3, 3), ("unused.weight",), "does not read the target unused.weight"),
        (Sorts(), torch.randn(3, 4), (), r"torchscript: .*; dynamo: "),
        (nn.Linear(3, 2), (torch.ones(3, 4),), (), "the module fails on inputs of shapes input"),
        (nn.Linear(3, 2), (3.0,), (), "inputs must be tensors"),
        (nn.Bilinear(2, 2, 2), (torch.ones(3, 2), torch.ones(2, 2)), (), "examples on their first axis"),
        (nn.Linear(3, 2), torch.ones(3, 3), ("head.weight",), "no part 'head'"),
        (nn.Linear(3, 2), torch.ones(3, 3), ("scale",), "no parameter or buffer 'scale'"),
    ],
)
def test_what_cannot_be_a_graph_is_refused(
    module: nn.Module, inputs: Any, targets: tuple[str, ...], message: str
) -> None:
    known = {name: dict(module.named_parameters()).get(name, torch.ones(2)) for name in targets}
    with pytest.raises(ExportError, match=message):
        trace(module, inputs, known)


def test_distance_is_infinite_where_numbers_are_not_finite_in_the_same_places() -> None:
    a = np.array([1.0, np.inf, np.nan])
    assert distance(a, a) == 0
    assert distance(a, np.array([1.0, -np.inf, np.nan])) == np.inf
    assert distance(a, np.array([1.0, np.inf, 0.0])) == np.inf
    assert distance(a, a[:2]) == np.inf
