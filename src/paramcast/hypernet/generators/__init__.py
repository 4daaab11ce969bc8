"""Generators, one for each form of edit: one file a form, one line here."""

from paramcast.hypernet.generators.base import Generator
from paramcast.hypernet.generators.codes import CodesGenerator
from paramcast.hypernet.generators.full import FullGenerator
from paramcast.hypernet.generators.lowrank import LowRankGenerator
from paramcast.hypernet.generators.residual import ResidualGenerator

GENERATORS: dict[str, type[Generator]] = {
    generator.form: generator
    for generator in (FullGenerator, ResidualGenerator, LowRankGenerator, CodesGenerator)
}

__all__ = ["GENERATORS", "Generator"]
