"""Benchmarks of CMDA-OT, with its baselines and data sets."""
