# SPDX-License-Identifier: Apache-2.0
"""What a recording of arrivals looks like on the disk.

::

    DIR/recording.json          format, when and how it was made, settings of the model and of each stream; no secrets
    DIR/services.json           how long batches took, by their size
    DIR/<stream>/arrivals.jsonl connections, packets and gaps, in the order in which they came
    DIR/<stream>/frames.jsonl   what became of each frame that the flow was given, in the order of the stream
    DIR/<stream>/<n>.nut        the packets of the n-th connection, as they came

Times are whole nanoseconds since the recording began (monotonic clock). The n-th packet of a segment belongs to the
n-th ``packet`` line after the ``opened`` line of its connection. Every file may end in the middle of its last record: a
process that was killed leaves a recording that can be played up to there.

NUT is FFmpeg's own container. It keeps each packet byte for byte, whatever its codec and however broken its stream.
Matroska does not: it puts H.264 into another framing and wants parameter sets in advance. MPEG-TS knows neither MJPEG
nor VP9, and its packets must be found again by a parser.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

FORMAT: Final = 1
"""Changes with everything that an older program would read wrong."""
ABOUT: Final = "recording.json"
SERVICES: Final = "services.json"
ARRIVALS: Final = "arrivals.jsonl"
FRAMES: Final = "frames.jsonl"
CONTAINER: Final = "nut"
TIME_BASE: Final = Fraction(1, 1_000_000)
"""Of the containers, whose stamps say when a packet came: any player shows it at that pace. What the sender's stamps
were is in the log."""


def segment(folder: Path, connection: int) -> Path:
    """The packets of one connection of a stream, from 1."""
    return folder / f"{connection}.{CONTAINER}"
