"""The exported folder: all that a device and a server need of a model, without torch.

Device and server import `read`, `onnx_file` and `server_read`. `read` and `onnx_file` need no torch and no
ONNX Runtime, `server_read` needs ONNX Runtime. `trace` and `write` need torch and make the folder; import
them by name.
"""

from paramcast.artifact.errors import ArtifactError, ExportError
from paramcast.artifact.manifest import TensorSpec
from paramcast.artifact.read import DeviceArtifact, read_device

__all__ = ["ArtifactError", "DeviceArtifact", "ExportError", "TensorSpec", "read_device"]
