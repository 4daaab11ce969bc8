"""The exported folder: what a device and a server need of a model, without torch.

`read` and `onnx_file` need numpy only, `server_read` also ONNX Runtime: device and server import these.
`trace` and `write` need torch and make the folder; import them by name.
"""

from paramcast.artifact.errors import ArtifactError, ExportError
from paramcast.artifact.manifest import TensorSpec
from paramcast.artifact.read import DeviceArtifact, read_device

__all__ = ["ArtifactError", "DeviceArtifact", "ExportError", "TensorSpec", "read_device"]
