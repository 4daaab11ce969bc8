"""Benchmarks of the Multi-Modal Adapter, with its baselines and data sets."""
