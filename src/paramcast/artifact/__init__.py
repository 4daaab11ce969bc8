"""The exported folder: what a device and a server need of a model, without torch.

`read` and `onnx_file` need numpy only, `generate` also ONNX Runtime; device and server import these. `trace`
and `write` need torch and make the folder; import them by name.
"""

from paramcast.artifact.errors import ArtifactError, ExportError
from paramcast.artifact.manifest import TensorSpec
from paramcast.artifact.read import DeviceArtifact, ServerArtifact, read_device, read_server

__all__ = [
    "ArtifactError",
    "DeviceArtifact",
    "ExportError",
    "ServerArtifact",
    "TensorSpec",
    "read_device",
    "read_server",
]
