"""CMDA-OT: collaborative multi-source domain adaptation through optimal transport."""

from paramcast.methods.cmda_ot.errors import FederationError, FederationInputError
from paramcast.methods.cmda_ot.estimator import CMDAOT

__all__ = ["CMDAOT", "FederationError", "FederationInputError"]
