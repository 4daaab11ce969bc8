"""Who gets a package, and what the others get."""

from __future__ import annotations

import pytest
import torch
from adaptor_cases import CASES, build, inputs, shake

from paramcast.hypernet.gain_predictor import GainPredictor


@pytest.mark.parametrize(("form", "condition"), CASES)
def test_a_refused_device_gets_the_base_model_and_an_accepted_one_its_package(
    form: str, condition: str
) -> None:
    adaptor, known = shake(build(form, condition)).eval(), inputs(6)
    with torch.no_grad():
        wanted, base = adaptor(known)[0], adaptor.adapted.adapter.base_values()
        assert all(torch.equal(value, wanted[name]) for name, value in adaptor.generate(known).items())
        torch.nn.init.normal_(adaptor.gate.weight)
        expected = adaptor.gate.gain(adaptor.encode(known))
    adaptor.gate.threshold.fill_(expected.median())
    accepted = expected > expected.median()
    for name, values in adaptor.generate(known).items():
        for device, value in enumerate(values):
            assert torch.equal(value, wanted[name][device] if accepted[device] else base[name])
    assert condition == "constant" or 0 < accepted.sum() < 6


def test_a_new_gate_lets_all_pass_and_one_of_infinite_demands_none() -> None:
    gate, hidden = GainPredictor(4), torch.randn(5, 4)
    assert gate(hidden).all()
    gate.threshold.fill_(torch.inf)
    assert not gate(hidden).any()
