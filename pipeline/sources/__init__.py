# SPDX-License-Identifier: Apache-2.0
"""Where frames come from: recordings, cameras and test patterns, and wrappers that pace, repeat and reconnect them.

- **Sources**: ``file``, ``camera`` and ``device`` (one connection each; ``live`` is what the two share), ``pattern``,
  ``absent``; ``isolation`` is a camera in a process of its own.
- **Sources around a source**: ``paced``, ``looping``, ``pausing``, ``reconnecting`` (with ``gate``, ``knocking`` and
  ``stillness``); ``joining`` carries index and time on from one source to the next.
- **libav**: ``opening`` says what may be opened, ``libav`` opens it, ``reader`` reads it with ``decoding``,
  ``timeline``, ``pictures`` and ``camera_clock``; ``hardware``, ``cuda_context`` and ``allocations`` are about its
  decoders; ``payloads``, ``access_units`` and ``nal`` make pictures of RTP packets.
- **What is left out**: ``skipping`` and ``auto_skip`` before the decoder, ``decimate`` after it.
- **First looks**: ``probe`` with ``packet_log`` and ``rhythm``; ``structure`` looks at bytes, ``readable`` at many
  files; ``paths`` and ``naming`` tell which recordings a command line means, and what they are called.
"""

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
