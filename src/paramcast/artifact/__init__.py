"""The one place that writes and reads the exported folder; reading it needs numpy and ONNX Runtime alone."""
