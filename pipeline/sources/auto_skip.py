# SPDX-License-Identifier: Apache-2.0
"""``skip: auto``: watches the packets of a stream and has its decoder leave out what the asked rate can spare."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Final

from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.sources.libav import Opened
from pipeline.sources.nal import Unneeded, unneeded_by
from pipeline.sources.opening import Skip
from pipeline.sources.skipping import SkipFacts, decide_skip

log = logging.getLogger(__name__)

LOOK_S: Final = 4.0
"""How much of a stream is looked at before each decision, in seconds of its time stamps."""

_ORDER: Final[tuple[Skip, ...]] = ("none", "nonref", "nonkey")
_UNSETTLED: Final = 4  # of the latest frames: others may still be decoded that are shown between them
_MOST_DISTRUST: Final = 900
_WORDS: Final = {
    "none": "every frame",
    "nonref": "only frames that other frames need",
    "nonkey": "only key frames",
}


@dataclass(slots=True)
class _Look:
    """What was seen since ``began_s``: packets, key frames among them, the longest time between two of those, packets
    that can be spared, and when the others are shown."""

    began_s: float | None = None
    needed_s: list[float] = field(default_factory=list)
    packets: int = 0
    keys: int = 0
    key_gap_s: float = 0.0
    spare: int = 0


class AutoSkip:
    """Chooses the mode of one stream, again and again; see :func:`pipeline.sources.skipping.decide_skip`.

    It begins with ``none`` and decides after each :data:`LOOK_S` of packets, left out or not. Where a key frame does
    not come in time, decoding goes on at once, with the next one. A stream that broke its habit has to keep to it for
    twice as long each time before it is believed again. What was learned outlives a reconnect and a loop.

    Args:
        asked_fps: frames a second that must still come out.
        name: of the stream, for the log.
    """

    def __init__(self, asked_fps: float, name: str) -> None:
        self.mode: Skip = "none"
        self._asked_fps = asked_fps
        self._name = name
        self._time_base = Fraction(1, 90000)
        self._unneeded: Unneeded | None = None
        self._key_gap_s: float | None = None
        self._distrust = 0  # looks that must go well before more is left out
        self._next_distrust = 1
        self._last_key_s: float | None = None
        self._look = _Look()

    def begin(self, opened: Opened) -> None:
        """Packets of another connection, or of another lap, follow."""
        self._time_base = opened.time_base
        self._unneeded = unneeded_by(opened.codec, opened.stream.codec_context.extradata)
        self._last_key_s = None
        self._look = _Look()

    def choose(self, packet: Packet[VideoStream]) -> Skip:
        """The mode for this packet; to be asked for each, in the order of decoding."""
        if packet.pts is None:
            return self.mode
        at = float(packet.pts * self._time_base)
        look = self._look
        if look.began_s is None or at < look.began_s - LOOK_S:  # the first one, or a sender whose clock was set back
            self._look = look = _Look(at)
            self._last_key_s = None
        self._note(look, packet, at)
        since_key_s = 0.0 if self._last_key_s is None else at - self._last_key_s
        if self.mode == "nonkey" and decide_skip(SkipFacts(since_key_s), self._asked_fps) != "nonkey":
            look.key_gap_s = since_key_s
            self._decide(look, at)
        elif at - (look.began_s or 0.0) >= LOOK_S:
            self._decide(look, at)
        return self.mode

    def _note(self, look: _Look, packet: Packet[VideoStream], at: float) -> None:
        look.packets += 1
        if packet.is_keyframe:
            if self._last_key_s is not None:
                look.key_gap_s = max(look.key_gap_s, at - self._last_key_s)
            self._last_key_s = at
            look.keys += 1
        if self._unneeded is not None and self._unneeded(memoryview(packet)):
            look.spare += 1
        else:
            look.needed_s.append(at)

    def _decide(self, look: _Look, at: float) -> None:
        """Draw the conclusion of a look and begin the next."""
        self._key_gap_s = look.key_gap_s or self._key_gap_s
        needed_s = sorted(look.needed_s)
        facts = SkipFacts(
            key_gap_s=self._key_gap_s if look.keys < look.packets else None,
            reference_gap_s=max((after - before for before, after in pairwise(needed_s[:-_UNSETTLED])), default=None),
            saves=look.spare / look.packets,
        )
        self._turn_to(decide_skip(facts, self._asked_fps))
        self._look = _Look(at, needed_s[-_UNSETTLED - 1 :])

    def _turn_to(self, wanted: Skip) -> None:
        denser = _ORDER.index(wanted) < _ORDER.index(self.mode)
        if denser:
            self._distrust = self._next_distrust
            self._next_distrust = min(2 * self._next_distrust, _MOST_DISTRUST)
        elif wanted != self.mode and self._distrust:
            self._distrust -= 1
            return
        if wanted != self.mode:
            self.mode = wanted
            text = "%s: %s decoded from now on (skip: auto)"
            log.info(text, self._name, _WORDS[wanted], extra={"stream": self._name})
