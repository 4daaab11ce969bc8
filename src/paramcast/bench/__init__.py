"""Measuring: evaluation, comparison, benchmarks, the demo, and how they are shown."""
