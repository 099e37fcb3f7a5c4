# SPDX-License-Identifier: Apache-2.0
"""The way of a frame through the program: :mod:`pipeline.flow.pipeline` shows it on one page."""

from pipeline.flow.pipeline import Pipeline

__all__ = ["Pipeline"]
