"""M3BAT: unsupervised domain adaptation of multi-modal sensing data by multi-branch adversarial training."""

from paramcast.methods.m3bat.domains import mask_targets
from paramcast.methods.m3bat.errors import DomainError, LabelsError, OptionError, SamplesError
from paramcast.methods.m3bat.estimators import M3BATClassifier, M3BATRegressor
from paramcast.methods.m3bat.shift import ShiftTable, cohens_d, shift_table

__all__ = [
    "DomainError",
    "LabelsError",
    "M3BATClassifier",
    "M3BATRegressor",
    "OptionError",
    "SamplesError",
    "ShiftTable",
    "cohens_d",
    "mask_targets",
    "shift_table",
]
