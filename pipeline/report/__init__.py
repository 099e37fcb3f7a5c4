# SPDX-License-Identifier: Apache-2.0
"""What a run was and how it went: ``report.json``, ``report.html`` and tables for the terminal."""

from pipeline.report.compose import compose
from pipeline.report.finding import Finding
from pipeline.report.lives import names
from pipeline.report.machine import describe_machine, peak_rss_mb
from pipeline.report.perfetto import save_trace, trace
from pipeline.report.saving import save, save_html, save_json, to_json
from pipeline.report.verdict import exit_code, findings, verdict

__all__ = [
    "Finding",
    "compose",
    "describe_machine",
    "exit_code",
    "findings",
    "names",
    "peak_rss_mb",
    "save",
    "save_html",
    "save_json",
    "save_trace",
    "to_json",
    "trace",
    "verdict",
]
