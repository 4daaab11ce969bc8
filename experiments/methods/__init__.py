"""Benchmarks of the methods in `paramcast.methods`."""
