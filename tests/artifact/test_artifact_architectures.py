"""Every architecture as a graph: under an update ONNX Runtime gives what the definition gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES

from paramcast.adapters import AdaptedModule, Basis, build_adapter
from paramcast.artifact.calling import collect
from paramcast.artifact.errors import ExportError
from paramcast.artifact.trace import TOLERANCE, distance, session, trace
from paramcast.protocol.changes import changed

REFUSED = {
    # Queries and keys have time on their first axis, and unlike lengths: no axis holds the examples of both.
    "MultiheadAttention, time first, other keys": "examples on their first axis",
}
"""Architecture -> why no exporter can write it."""

BY_DYNAMO = {
    "TransformerEncoder, time first",  # its reshapes are traced for one length
    "two modalities, one dictionary",  # pools to a length that is no factor of the signal's
    "transformers PatchTST of time series",  # its positions are traced for one length
}
"""Those for which the tracer fails, and the slower exporter is taken."""


def cases() -> list[Any]:
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in BY_DYNAMO else []) for name in ARCHITECTURES
    ]


@pytest.mark.parametrize("name", cases())
def test_the_graph_under_an_update_is_the_module_under_it(name: str) -> None:
    try:
        module, inputs, patterns = ARCHITECTURES[name]()
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed here")
    adapted = AdaptedModule(module, build_adapter(Basis(8), module, patterns))
    adapter = adapted.adapter
    if name in REFUSED:
        with pytest.raises(ExportError, match=REFUSED[name]):
            trace(adapted.replica, inputs, adapter.targets)
        return
    traced = trace(adapted.replica, inputs, adapter.targets)
    assert traced.exporter == ("dynamo" if name in BY_DYNAMO else "torchscript")
    values = adapter.probe_values(3)
    arrays = {key: value.numpy() for key, value in values.items()}
    constants = adapter.constants()
    rows = len(next(iter(torch.utils._pytree.tree_leaves(inputs))))
    feed = {key: value[:rows] for key, value in traced.example.items()}
    for key, given in traced.targets.items():
        base = adapter.targets[key].detach().float().numpy()
        for kind in adapter.kinds[key]:
            base = changed(kind, key, base, arrays, constants)
        feed[given] = np.ascontiguousarray(base, np.float32)
    run = session(traced.graph)
    asked = {node.name for node in run.get_inputs()}
    got = run.run(
        [spec.name for spec in traced.outputs], {key: value for key, value in feed.items() if key in asked}
    )
    wanted: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        collect(adapted(inputs, values), "", wanted)
    for spec, a, b in zip(traced.outputs, wanted.values(), got, strict=True):
        rows = slice(min(len(a), len(b))) if a.ndim else ...  # a number, such as a temperature, has no rows
        assert distance(a.numpy()[rows], b[rows]) < TOLERANCE, spec.name
