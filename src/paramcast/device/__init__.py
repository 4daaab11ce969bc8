"""Device side. It needs numpy, onnxruntime, tokenizers, safetensors, PyNaCl and httpx2, and nothing else."""

from paramcast.device.answers import Answer
from paramcast.device.async_client import AsyncCloudClient
from paramcast.device.bundle import Bundle
from paramcast.device.client import CloudClient
from paramcast.device.device import Device, DeviceStatus
from paramcast.device.errors import (
    BundleError,
    CloudError,
    DeviceInputError,
    NoEffect,
    NoPublicKey,
    PackageLost,
    ProbeFailed,
    WrongEffect,
)
from paramcast.device.identity import DeviceIdentity
from paramcast.device.loop import AdaptationLoop, AsyncAdaptationLoop
from paramcast.device.module_runtime import ModuleRuntime
from paramcast.device.policy import Always, Budget, Every, Never, OnDrift, RequestPolicy, make_policy
from paramcast.device.runtime import DeviceRuntime, Hit

__all__ = [
    "AdaptationLoop",
    "Always",
    "Answer",
    "AsyncAdaptationLoop",
    "AsyncCloudClient",
    "Budget",
    "Bundle",
    "BundleError",
    "CloudClient",
    "CloudError",
    "Device",
    "DeviceIdentity",
    "DeviceInputError",
    "DeviceRuntime",
    "DeviceStatus",
    "Every",
    "Hit",
    "ModuleRuntime",
    "Never",
    "NoEffect",
    "NoPublicKey",
    "OnDrift",
    "PackageLost",
    "ProbeFailed",
    "RequestPolicy",
    "WrongEffect",
    "make_policy",
]
