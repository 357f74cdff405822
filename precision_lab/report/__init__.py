"""Results → a report people read: HTML, Markdown, figures, terminal. Measures and computes nothing new."""

from precision_lab.report.findings import Finding, derive
from precision_lab.report.terminal import print_summary
from precision_lab.report.write import check_directory, read_results, write_lowprecision, write_report

__all__ = ["Finding", "check_directory", "derive", "print_summary", "read_results",
           "write_lowprecision", "write_report"]  # fmt: skip
