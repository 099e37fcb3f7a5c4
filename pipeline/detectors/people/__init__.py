# SPDX-License-Identifier: Apache-2.0
"""`builtin:people`: OpenCV's HOG + linear SVM pedestrian detector as a TorchScript module; nothing is downloaded."""

from pipeline.detectors.people.build import INPUT_HEIGHT, INPUT_WIDTH, build_people
from pipeline.detectors.people.postprocess import decode_people

__all__ = ["INPUT_HEIGHT", "INPUT_WIDTH", "build_people", "decode_people"]
