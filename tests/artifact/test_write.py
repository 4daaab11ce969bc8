"""Writing the folder: whole or not at all, and never over something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from worlds import CASES, Describe, Generates, World, make_world

from paramcast.adapters import AdaptedModule, Basis, build_adapter
from paramcast.artifact.errors import ExportError
from paramcast.artifact.read import read_device
from paramcast.artifact.server_read import OnnxHypernetwork
from paramcast.artifact.write import export_device, export_hypernetwork
from paramcast.hypernet.context import ContextInputs
from paramcast.protocol import AdaptRequest
from paramcast.training.uplink import Uplink


def adapted(module: nn.Module) -> AdaptedModule:
    torch.manual_seed(0)
    return AdaptedModule(module, build_adapter(Basis(4), module, ["*"]))


def uplink(features: int, numbers: int = 3) -> Uplink:
    return Uplink(np.zeros(features, "f4"), np.ones((features, numbers), "f4"))


def test_a_second_export_is_of_the_same_model(conv: World, tmp_path: Path) -> None:
    assert make_world(tmp_path / "again", "conv", labels=["a"] * 5, public_key="0" * 64).model == conv.model


def test_another_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "device").mkdir()
    module = adapted(nn.Linear(4, 2))
    with pytest.raises(ExportError, match="is no artifact"):
        export_device(module, Describe(), uplink(4), torch.randn(3, 4), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "device"}


def test_an_export_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "a"
    before = export_device(adapted(nn.Linear(4, 2)), Describe(), uplink(4), torch.randn(3, 4), out)
    other = adapted(nn.Linear(4, 3))
    with pytest.raises(ExportError, match="with F of the uplink, 5"):
        export_device(other, Describe(), uplink(5), torch.randn(3, 4), out)
    assert read_device(out).model == before
    after = export_device(other, Describe(), uplink(4), torch.randn(3, 4), out)
    assert read_device(out).model == after != before
    assert {path.name for path in out.iterdir()} == {"device"}
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def test_a_task_is_short(tmp_path: Path) -> None:
    module = adapted(nn.Linear(4, 2))
    with pytest.raises(ExportError, match="1 to 32 characters"):
        export_device(module, Describe(), uplink(4), torch.randn(3, 4), tmp_path / "a", task="x" * 33)


class Watching:
    """Features from the module's own run: what the last layer is given, and what it gives."""

    def run(self, module: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        outputs = module(inputs)
        return outputs, torch.cat([inputs, outputs], 1)


def test_a_watcher_s_features_come_from_the_same_graph(tmp_path: Path) -> None:
    module, x = adapted(nn.Linear(4, 2)), torch.randn(3, 4)
    export_device(module, Watching(), uplink(6), x, tmp_path / "a")
    artifact = read_device(tmp_path / "a")
    assert artifact.context.graph == "model.onnx"
    assert set(artifact.files) == {"model.onnx"}


def test_half_modules_are_exported(tmp_path: Path) -> None:
    module = adapted(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).to(torch.bfloat16))
    x = torch.randn(3, 4, dtype=torch.bfloat16)
    export_device(module, Describe(), uplink(4), x, tmp_path / "a")
    assert {spec.dtype for spec in read_device(tmp_path / "a").outputs} == {"float32"}


def test_the_server_s_half_generates_what_the_hypernetwork_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shapes = {"codes": (8,), "matrix": (2, 3)}
    network = Generates(shapes, 4).eval()
    export_hypernetwork(network, tmp_path, model="0" * 64, adapter="basis", shapes=shapes, uplink_dims=(4, 1))
    backend = OnnxHypernetwork.open(tmp_path)
    anchors = [np.random.default_rng(n).normal(size=(n, 4)).astype("f4") for n in (1, 5)]
    none = np.empty((0, 1), np.float32), np.empty(0, np.int64)
    made = backend.generate([AdaptRequest("d", "0" * 64, 0, rows, *none) for rows in anchors])
    for rows, tensors in zip(anchors, made, strict=True):
        mask = torch.ones(1, len(rows), dtype=torch.bool)
        empty = torch.zeros(1, 0, 1), torch.zeros(1, 0, dtype=torch.bool)
        with torch.no_grad():
            wanted = network.gated(ContextInputs(torch.from_numpy(rows)[None], mask, *empty))
        for name in shapes:
            np.testing.assert_allclose(tensors[name], wanted[name][0].numpy(), atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_exported(case: str, tmp_path: Path) -> None:
    """`export_device` itself compares graph and module under an update."""
    if case == "bert":
        pytest.importorskip("transformers")
    world = make_world(tmp_path / "a", case)
    assert read_device(tmp_path / "a").model == world.model
