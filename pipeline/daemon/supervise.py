# SPDX-License-Identifier: Apache-2.0
"""Looking after feeds: which of them stand still, and whose reader will never come back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.ledger import FROZEN_NS, Ledger, StreamLedger

log = logging.getLogger("pipeline")

LOOK_NS = 1_000_000_000
LATE_NS = 5_000_000_000
"""A look that comes this late means that the whole machine stood still (suspended, swapping): nothing can be said of
the feeds."""
STALL_NS = 3_000_000_000
STALL_INTERVALS = 10
"""No frame for the longer of both is a stall."""
STUCK_NS = 60_000_000_000
"""Every wait in a source has a limit (as they come: connecting and probing 5 s each, reading 5 s, frames that cannot be
decoded 15 s). A reader that has not come back after this, and after twice its own limits, hangs in native code."""
MOST_STUCK = 8
"""Readers left behind at most; each holds a thread and whatever its library has open."""


@dataclass(slots=True)
class _Watched:
    """What was last seen of a feed.

    Attributes:
        frames, changes: decoded frames, and changes of its state.
        moved_ns: when either grew.
        first_frames, first_ns: frames and time when this state began.
    """

    frames: int
    changes: int
    moved_ns: int
    first_frames: int
    first_ns: int


class Supervisor:
    """Names feeds that stand still (state ``stalled``) and those that move again, and gives up readers that hang.

    Sources have limits of their own: a stall of 5 s ends a camera's connection and begins another. What is seen here
    is earlier (3 s), says so to everybody who looks, and is the last resort where a limit was not kept.

    Where more than half of the feeds go stale in one look, or the look itself comes late, it is this machine that is
    suspected: nothing is done in that look.

    Args:
        ledger: of the pipeline.
        give_up: leaves the reader of a stream behind and ends the stream; False where it does not hang.
        restart: begins a stream anew.
        limit_s: longest that the source of a stream may take by its own settings, in seconds.
        now: monotonic nanoseconds.

    Attributes:
        left_behind: readers given up so far. With :data:`MOST_STUCK` of them only a new process helps.
    """

    def __init__(
        self,
        ledger: Ledger,
        give_up: Callable[[str], bool],
        restart: Callable[[str], None],
        limit_s: Callable[[str], float],
        now: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._give_up = give_up
        self._restart = restart
        self._limit_s = limit_s
        self._suspecting = False
        self._now = now
        self._last_ns = now()
        self._watched: dict[StreamLedger, _Watched] = {}
        self._frozen: set[StreamLedger] = set()
        self.left_behind = 0

    def look(self) -> None:
        """Look at all feeds, once a second; cheap enough to be called all the time."""
        now_ns = self._now()
        if now_ns - self._last_ns < LOOK_NS:
            return
        late, self._last_ns = now_ns - self._last_ns > LATE_NS, now_ns
        feeds = [one for name, one in self._ledger.streams.items() if one.info.live and name == one.name]
        self._watched = {one: self._seen(one, now_ns) for one in feeds}
        live = [one for one in feeds if one.state == "live"]
        self._say_frozen(live)
        stale = [one for one in live if now_ns - self._watched[one].moved_ns > self._limit_ns(one)]
        if late:
            log.warning("this check came late: suspecting this machine; doing nothing for a moment")
            for watched in self._watched.values():  # nobody could have moved: their time begins anew
                watched.first_frames, watched.first_ns, watched.moved_ns = watched.frames, now_ns, now_ns
            return
        if len(live) > 1 and 2 * len(stale) > len(live) and not self._suspecting:  # once: the next look acts
            self._suspecting = True
            text = "%d of %d feeds went stale at once: suspecting this machine; doing nothing for a moment"
            log.warning(text, len(stale), len(live))
            return
        self._suspecting = False
        for one in stale:
            self._say_stalled(one, now_ns)
        for one in feeds:
            waits = one.state in ("live", "stalled") or (one.state == "connecting" and one.life.changes)
            patience_ns = max(STUCK_NS, int(2e9 * self._limit_s(one.name)))
            if waits and now_ns - self._watched[one].moved_ns > patience_ns:
                self._leave_behind(one)

    def _seen(self, account: StreamLedger, now_ns: int) -> _Watched:
        frames, changes = account.decoded, account.life.changes
        seen = self._watched.get(account)
        if seen is None:
            return _Watched(frames, changes, now_ns, frames, now_ns)
        if frames > seen.frames and account.life.moves():
            extra = _about(account.name, "stall", "moves", ends="stalled")
            log.info("%s: frames again", account.name, extra=extra)
        if (frames, changes) != (seen.frames, seen.changes):
            if changes != seen.changes:
                seen.first_frames, seen.first_ns = frames, now_ns
            seen.frames, seen.changes, seen.moved_ns = frames, changes, now_ns
        return seen

    def _limit_ns(self, account: StreamLedger) -> int:
        """By the frames of this connection; by the declared rate before there are some."""
        watched = self._watched[account]
        frames = watched.frames - watched.first_frames
        if frames > 1:
            interval_ns = (watched.moved_ns - watched.first_ns) / frames
        else:
            interval_ns = 1e9 / account.info.fps if account.info.fps else 0.0
        return max(STALL_NS, int(STALL_INTERVALS * interval_ns))

    def _say_stalled(self, account: StreamLedger, now_ns: int) -> None:
        detail = f"no frame for {(now_ns - self._watched[account].moved_ns) / 1e9:.0f} s"
        if account.life.stands_still(detail):
            log.warning("%s: stalled: %s", account.name, detail, extra=_about(account.name, "stall", "stalled"))

    def _say_frozen(self, live: list[StreamLedger]) -> None:
        """Frames arrive, and are all the same: nothing that this side can cure, and no reason to hang up."""
        frozen = {one for one in live if one.still_ns >= FROZEN_NS}
        for one in frozen - self._frozen:
            text = "%s: the picture has not changed for %.0f s: is the camera frozen?"
            log.warning(text, one.name, one.still_ns / 1e9, extra=_about(one.name, "picture", "frozen"))
        for one in self._frozen.intersection(live) - frozen:
            extra = _about(one.name, "picture", "changes", ends="frozen")
            log.info("%s: the picture changes again", one.name, extra=extra)
        self._frozen = frozen

    def _leave_behind(self, account: StreamLedger) -> None:
        if self.left_behind >= MOST_STUCK or not self._give_up(account.name):
            return
        self.left_behind += 1
        text = "%s: its reader hangs in native code and is left behind (%d so far); the stream begins anew"
        log.error(text, account.name, self.left_behind, extra={"stream": account.name})
        self._restart(account.name)

    @property
    def exhausted(self) -> bool:
        """So many readers hang that only a new process helps."""
        return self.left_behind >= MOST_STUCK


def _about(name: str, what: str, state: str, ends: str | None = None) -> dict[str, str]:
    """For the log, which says how things stand (:mod:`pipeline.cli.program.folding`)."""
    extra = {"stream": name, "about": f"{name}: {what}", "same": f"{name}: {state}"}
    return extra if ends is None else {**extra, "ends": f"{name}: {ends}"}
