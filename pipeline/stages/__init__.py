# SPDX-License-Identifier: Apache-2.0
"""Preprocessing: from decoded pictures to network inputs, and to pictures for people."""

from pipeline.stages.display import full_picture
from pipeline.stages.geometry import fit
from pipeline.stages.letterbox import Letterbox
from pipeline.stages.region import Region

__all__ = ["Letterbox", "Region", "fit", "full_picture"]
