# SPDX-License-Identifier: Apache-2.0
"""Where frames come from: recordings, cameras and test patterns, and wrappers that pace, repeat and reconnect them."""

from pipeline.sources.absent import Absent
from pipeline.sources.auto_skip import AutoSkip
from pipeline.sources.camera import CameraSource
from pipeline.sources.decimate import Thinner
from pipeline.sources.device import DeviceSource
from pipeline.sources.file import FileSource
from pipeline.sources.gate import Gate
from pipeline.sources.isolation.process import Isolation
from pipeline.sources.isolation.source import IsolatedSource
from pipeline.sources.knocking import knock
from pipeline.sources.looping import Looping
from pipeline.sources.opening import FILE_CODECS, LIVE_CODECS, Skip, check_scheme, local_path
from pipeline.sources.paced import Paced
from pipeline.sources.paths import expand, looks_live
from pipeline.sources.pattern import PatternSource, PatternSpec
from pipeline.sources.pausing import Pausable
from pipeline.sources.probe import SourceReport, probe
from pipeline.sources.readable import none_readable
from pipeline.sources.reconnecting import Reconnecting
from pipeline.sources.skipping import SkipFacts, decide_skip

__all__ = [
    "FILE_CODECS",
    "LIVE_CODECS",
    "Absent",
    "AutoSkip",
    "CameraSource",
    "DeviceSource",
    "FileSource",
    "Gate",
    "IsolatedSource",
    "Isolation",
    "Looping",
    "Paced",
    "PatternSource",
    "PatternSpec",
    "Pausable",
    "Reconnecting",
    "Skip",
    "SkipFacts",
    "SourceReport",
    "Thinner",
    "check_scheme",
    "decide_skip",
    "expand",
    "knock",
    "local_path",
    "looks_live",
    "none_readable",
    "probe",
]
