"""Generators, one for each form of edit: one file a form, one line here."""

from paramcast.adaptor.generators.base import Generator
from paramcast.adaptor.generators.codes import CodesGenerator
from paramcast.adaptor.generators.full import FullGenerator
from paramcast.adaptor.generators.lowrank import LowRankGenerator
from paramcast.adaptor.generators.residual import ResidualGenerator

GENERATORS: dict[str, type[Generator]] = {
    generator.form: generator
    for generator in (FullGenerator, ResidualGenerator, LowRankGenerator, CodesGenerator)
}

__all__ = ["GENERATORS", "Generator"]
