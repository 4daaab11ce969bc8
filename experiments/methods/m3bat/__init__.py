"""Benchmarks of M3BAT, with its baselines and data sets."""
