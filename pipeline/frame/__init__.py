# SPDX-License-Identifier: Apache-2.0
"""The nouns that travel: what a source captures, what the detector is given, and what is found."""

from pipeline.frame.arrays import FloatArray, IntArray, Uint8Array
from pipeline.frame.capture import Capture, Matrix, Picture, Rotation, SourceCounters, StreamInfo
from pipeline.frame.frame import Batch, DropReason, Frame, Item, Outcome, StreamKey
from pipeline.frame.inputs import Geometry, InputSpec
from pipeline.frame.results import Detections, Result

__all__ = [
    "Batch",
    "Capture",
    "Detections",
    "DropReason",
    "FloatArray",
    "Frame",
    "Geometry",
    "InputSpec",
    "IntArray",
    "Item",
    "Matrix",
    "Outcome",
    "Picture",
    "Result",
    "Rotation",
    "SourceCounters",
    "StreamInfo",
    "StreamKey",
    "Uint8Array",
]
