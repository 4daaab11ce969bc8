"""Hypernetworks of any adapter, and states and names that were written before adapters were by parameter."""

from __future__ import annotations

from typing import Any

import adaptor_cases as cases
import pytest
import torch
from torch import nn

from paramcast.adapters import (
    AdaptedModule,
    Basis,
    Full,
    LowRank,
    NormStatistics,
    Residual,
    build_adapter,
    config_name,
)
from paramcast.errors import InputError
from paramcast.hypernet import Hypernetwork, HypernetworkConfig
from paramcast.hypernet.forms import form_adapter

CONFIGS = [Basis(4), LowRank(2), Residual(), Full(), NormStatistics(), (Basis(4), NormStatistics())]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).requires_grad_(False)


@pytest.mark.parametrize("config", CONFIGS, ids=config_name)
def test_it_starts_at_the_base_and_every_head_learns(config: Any) -> None:
    module = net()
    adapter = build_adapter(config, module, ["*"])
    hypernet = Hypernetwork(HypernetworkConfig("support", cases.IMAGE, cases.TEXT, 0, latent=4), adapter)
    adapted, known = AdaptedModule(module, adapter), cases.inputs(devices=3)
    inputs = [torch.randn(5, 3) for _ in range(3)]
    adapted.check(inputs)
    values, _ = hypernet.train()(known)
    outputs = adapted.batched(inputs, values)
    for x, output in zip(inputs, outputs, strict=True):
        torch.testing.assert_close(output, module.eval()(x), atol=1e-5, rtol=1e-5)
    torch.stack(outputs).square().sum().backward()
    for name, parameter in hypernet.named_parameters():
        if ".heads." in name and "/b." not in name:  # of two factors, the one that is not zero has to wait
            assert parameter.grad is not None, name
            assert (parameter.grad != 0).any(), name
    assert not {id(each) for each in module.parameters()} & {id(each) for each in hypernet.parameters()}
    with torch.no_grad():
        assert hypernet.generate(known).keys() == adapter.shapes.keys()


def test_states_of_older_models_are_read() -> None:
    """Their adapter was called `edit`, with the same keys behind it."""
    first, second = cases.shake(cases.build("codes")).eval(), cases.build("codes").eval()
    for parameter in second.parameters():
        nn.init.normal_(parameter)
    older = {
        name.replace("adapter.", "edit.", 1) if name.startswith("adapter.") else name: value
        for name, value in first.state_dict().items()
    }
    assert {"edit.basis.fusion/image:bias", "edit.basis.head:u", "edit.basis.head:v"} < set(older)
    second.load_state_dict(older)
    known = cases.inputs()
    assert torch.equal(first(known)[0]["codes"], second(known)[0]["codes"])


def test_updates_of_the_forms_of_old_have_their_names_of_old() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    shapes = {form: form_adapter(form, module, ["*"], {}).shapes for form in ("codes", "lowrank", "full")}
    assert shapes["codes"] == {"codes": (64,)}
    assert shapes["lowrank"] == {
        "0.a": (4, 4),
        "0.b": (4, 3),
        "0.bias": (4,),
        "1.scale": (4,),
        "1.bias": (4,),
    }
    assert shapes["full"] == {"0.weight": (4, 3), "0.bias": (4,), "1.weight": (4,), "1.bias": (4,)}
    old, new = form_adapter("lowrank", module, ["*"], {}), build_adapter(LowRank(4), module, ["*"])
    values = old.probe_values(1)
    renamed = {name: old.renamed(values)[name] for name in new.shapes}
    for name, value in old.changed(values).items():
        assert torch.equal(value, new.changed(renamed)[name])
    assert form_adapter("codes", module, ["0"], {"count": 5}).shapes == {"codes": (5,)}
    with pytest.raises(InputError, match="no form is called 'half'"):
        form_adapter("half", module, ["0"], {})
    with pytest.raises(InputError, match=r"has no option count; it has: \['rank'\]"):
        form_adapter("lowrank", module, ["0"], {"count": 5})
