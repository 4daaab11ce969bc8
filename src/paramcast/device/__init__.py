"""The device side: needs numpy, onnxruntime, tokenizers, safetensors, PyNaCl and httpx2, nothing else."""

from paramcast.device.answers import Answer
from paramcast.device.bundle import Bundle
from paramcast.device.client import AsyncCloudClient, CloudClient
from paramcast.device.errors import (
    BundleError,
    CloudError,
    DeviceInputError,
    NoPublicKey,
    PackageLost,
    ProbeFailed,
)
from paramcast.device.runtime import DeviceRuntime, Hit

__all__ = [
    "Answer",
    "AsyncCloudClient",
    "Bundle",
    "BundleError",
    "CloudClient",
    "CloudError",
    "DeviceInputError",
    "DeviceRuntime",
    "Hit",
    "NoPublicKey",
    "PackageLost",
    "ProbeFailed",
]
