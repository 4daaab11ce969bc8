"""Report page of an evaluation: one HTML file without other files."""

from paramcast.bench.report.evaluation import write_report

__all__ = ["write_report"]
