"""Measurements: evaluation, comparison, benchmarks, the demo, and their tables and pages."""
