"""Adapt a torch model of your own: examples of devices in, an adaptor that makes signed packages out."""

from paramcast.training.own.devices import OwnDevice
from paramcast.training.own.evaluate import accuracy, evaluate_own, pooled
from paramcast.training.own.model import OwnModel
from paramcast.training.own.supervised import fit_supervised
from paramcast.training.own.train import OwnOptions, SeenDevicesWarning, train_own

__all__ = [
    "OwnDevice",
    "OwnModel",
    "OwnOptions",
    "SeenDevicesWarning",
    "accuracy",
    "evaluate_own",
    "fit_supervised",
    "pooled",
    "train_own",
]
