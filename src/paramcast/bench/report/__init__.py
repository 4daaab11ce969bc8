"""The report page of an evaluation: one HTML file that needs nothing else."""

from paramcast.bench.report.evaluation import write_report

__all__ = ["write_report"]
