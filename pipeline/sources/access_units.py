# SPDX-License-Identifier: Apache-2.0
"""Pictures out of the payloads of RTP packets, each as soon as its last packet is there.

libavformat's parser knows that a picture is complete when the next one begins: a whole interval later. Without it every
RTP payload arrives by itself, and the bit that marks the last one of a picture (RFC 3550, *marker*) is not shown. So a
picture ends

- for certain, when the time stamp changes, or a NAL unit comes that can only belong to the next picture;
- before that, when the camera's habits say so: the last NAL unit is whole, and it has as many slices as its pictures
  have had for some time. Whether a NAL unit is whole is told by the size of the packet: senders fill all fragments but
  the last one (RFC 6184, 5.8; RFC 7798, 4.4.3), so what is shorter than every fragment that was ever followed by
  another one is a last one. One that happens to be as long as a full one waits for the next picture.

The habits are learned from pictures that ended for certain, and tried on them before they are relied upon. A camera
that breaks them (another number of slices, fragments of equal size) loses the rest of one picture, which is handed out
as ``late``; then it is watched twice as long, so a camera without habits is soon read as a parser would read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.sources.nal import Grammar, by_start_code

MOST_BYTES: Final = 16 << 20
"""A picture that grows beyond this is handed out as it is; intra pictures of 8K cameras have a few megabytes."""
WATCHED: Final = 12
"""Pictures in a row that must have kept to a habit before it is relied upon. Key frames, which are rarer: 2."""
_WATCHED_KEYS: Final = 2
_MOST_PATIENCE: Final = 1 << 20
_REMEMBERED: Final = 512  # packets after which half of what was seen of their sizes is forgotten


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """The bytes of one coded picture, with start codes, and what stands before it.

    Attributes:
        pts: of its packets, in units of the stream's time base.
        key: the picture can be decoded without those before it.
        late: the rest of a picture that was handed out too early; of no use to a decoder.
    """

    data: bytes
    pts: int | None
    key: bool = False
    late: bool = False


class _Sizes:
    """Which sizes packets of one kind have: those that go on in the next packet, and those that end a NAL unit."""

    __slots__ = ("_before", "_longest_end", "_seen", "_shortest_open")

    def __init__(self) -> None:
        self._shortest_open: int | None = None
        self._before: int | None = None  # the same, of an earlier time
        self._longest_end = 0
        self._seen = 0

    def ends(self, size: int) -> bool:
        """Whether a packet of this size is known to be the last of its NAL unit."""
        known = [shortest for shortest in (self._shortest_open, self._before) if shortest is not None]
        return size < min(known) if known else size <= self._longest_end

    def learn(self, size: int, *, went_on: bool) -> None:
        """What followed a packet of this size."""
        self._seen += 1
        if self._seen > _REMEMBERED:  # a lost packet leaves a wrong idea for so long
            self._seen = 0
            self._before, self._shortest_open = self._shortest_open, None
        if not went_on:
            self._longest_end = max(self._longest_end, size)
        elif self._shortest_open is None or size < self._shortest_open:
            self._shortest_open = size


@dataclass(slots=True)
class _Habit:
    """How many slices the latest pictures of one kind had, and how many in a row."""

    slices: int = 0
    held: int = 0

    def learn(self, slices: int) -> None:
        self.held = self.held + 1 if slices == self.slices else 1
        self.slices = slices


class AccessUnits:
    """Puts one stream together. Every byte that goes in comes out, in order.

    Args:
        grammar: of its codec, see :data:`pipeline.sources.nal.GRAMMARS`.

    Attributes:
        early: pictures that were handed out before the next one began.
        mistakes: those among them of which more was to come.
    """

    def __init__(self, grammar: Grammar) -> None:
        self.early = self.mistakes = 0
        self._read = grammar.read
        self._first, self._further = _Sizes(), _Sizes()  # packets that begin a NAL unit, and that go on with one
        self._habits = {True: _Habit(), False: _Habit()}  # of key frames, and of others
        self._patience = 1
        self._data = bytearray()
        self._pts: int | None = None
        self._last: tuple[_Sizes, int] | None = None  # kind and size of the latest packet, where they say something
        self._in_slice = False  # the latest NAL unit is a slice
        # Of the picture that is under way
        self._slices = 0
        self._key = False
        self._foretold = False  # by its habits it is complete
        self._sent = False  # it was handed out; what is in `_data` came afterwards
        self._late = False  # and more of it came

    def add(self, data: bytes, pts: int | None) -> list[AccessUnit]:
        """What is complete with this packet: mostly nothing, or one picture."""
        begins = data.startswith((b"\0\0\0\1", b"\0\0\1"))
        units = [self._read(data, at) for at in by_start_code(data)] if begins else []
        done: list[AccessUnit] = []
        ended = self._slices > 0 and (pts != self._pts or (begins and bool(units) and units[0].opens))
        if ended:
            done += self._end()
        if self._last is not None and (begins or not ended):  # else the packet between the two was lost
            kind, size = self._last
            kind.learn(size, went_on=not begins)
        self._data += data
        self._pts = pts
        goes_on = self._slices > 0 and (any(unit.slice for unit in units) or (self._in_slice and not begins))
        self._slices += sum(unit.slice for unit in units)
        self._key |= any(unit.key for unit in units)
        if begins or ended:
            self._in_slice = bool(units) and units[-1].slice
        if goes_on and self._foretold:
            done += self._regret()
        # A packet with several NAL units holds them whole (RFC 6184, 5.7.1; RFC 7798, 4.4.2).
        self._last = None if len(units) > 1 or not (begins or self._in_slice) else (self._kind(begins), len(data))
        whole = len(units) > 1 or (self._last is not None and self._kind(begins).ends(len(data)))
        if whole and self._in_slice and not self._sent:
            done += self._foretell()
        if len(self._data) >= MOST_BYTES:
            self._sent = self._foretold = self._slices > 0
            done.append(self._take())
        return done

    def flush(self) -> list[AccessUnit]:
        """What is left at the end of the stream."""
        done = self._end() if self._slices else []
        return done if not self._data else [*done, self._take()]

    def _kind(self, begins: bool) -> _Sizes:
        return self._first if begins else self._further

    def _foretell(self) -> list[AccessUnit]:
        """The picture, where its habits say that it is complete, and have been right for long enough."""
        habit = self._habits[self._key]
        if self._slices != habit.slices:
            return []
        self._foretold = True
        if habit.held < self._patience * (_WATCHED_KEYS if self._key else WATCHED):
            return []
        self._sent = True
        self.early += 1
        return [self._take()]

    def _regret(self) -> list[AccessUnit]:
        """More has come of a picture that was taken to be complete."""
        self._habits[self._key].held = 0
        self._foretold = self._sent
        if not self._sent:
            return []
        if not self._late:
            self.mistakes += 1
            self._habits[not self._key].held = 0  # the camera is not what it was
            self._late = True
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
        return [self._take(late=True)]

    def _end(self) -> list[AccessUnit]:
        """The picture is complete for certain; what was handed out before is not handed out again."""
        done = [] if self._sent else [self._take()]
        self._habits[self._key].learn(self._slices)
        self._slices = 0
        self._key = self._foretold = self._sent = self._late = False
        return done

    def _take(self, *, late: bool = False) -> AccessUnit:
        data = bytes(self._data)
        self._data.clear()
        return AccessUnit(data, self._pts, self._key and not late, late)
