# SPDX-License-Identifier: Apache-2.0
"""A run's journal as a trace for Perfetto or chrome://tracing: a track per thread, an arrow per frame.

The format: Google, Trace Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from pipeline.errors import SinkError
from pipeline.figures import count
from pipeline.host.replacing import replacing
from pipeline.ledger import Journal, batch_times
from pipeline.timing import FRAME, PARTS, PTS, WAITS, Mark, ended_in

log = logging.getLogger("pipeline")

Event = dict[str, Any]

_PID: Final = 1
_WORK: Final = {
    Mark.DECODED: "decode", Mark.PREPARED: "preprocess", Mark.MADE: "preprocess", Mark.FOLLOWED: "follow",
}  # fmt: skip
"""What a frame's own marks tell of the threads; batches and writes are told by whoever made them."""
_BESIDE: Final = re.compile(r" \((\d+)\)$")
_ORDER: Final = ("read", "wait", "detect", "gpu", "follow", "write", "gc")


Beside = dict[tuple[str, str, int], str]
"""Where slices lie that overlap another one of their track, by track, kind and beginning."""


class Slice(NamedTuple):
    """Something that took time on a track, nanoseconds."""

    track: str
    name: str
    began_ns: int
    ended_ns: int
    facts: dict[str, Any]


def trace(journal: Journal, operators: Sequence[Slice] = ()) -> bytes:
    """The journal as a JSON document; times count from its first event.

    ``operators`` (:mod:`pipeline.report.operators`) have tracks of their own, on which one may lie within another.
    """
    return b"".join(_pieces(journal, operators))


def _pieces(journal: Journal, operators: Sequence[Slice]) -> Iterator[bytes]:
    """The document event by event: together they would take six times the memory of their text."""
    opening = b'{"displayTimeUnit":"ms","traceEvents":[\n'
    for event in _events(journal, operators):
        yield opening + orjson.dumps(event)
        opening = b",\n"
    yield b'\n],"otherData":' + orjson.dumps({"frames_left_out": journal.left_out}) + b"}\n"


def _events(journal: Journal, operators: Sequence[Slice]) -> Iterator[Event]:
    slices = list(_slices(journal))
    base_ns = min((each.began_ns for each in (*slices, *operators)), default=0)
    yield _meta("process_name", 0, {"name": "pipeline"})
    if journal.left_out:
        yield {"ph": "i", "s": "g", "pid": _PID, "tid": 0, "ts": 0.0, "name": left_out(journal)}
    tracks = _numbered({track for _, track in _side_by_side(slices)} | {each.track for each in operators})
    beside: Beside = {}
    for each, track in chain(_side_by_side(slices), ((each, each.track) for each in operators)):
        if track != each.track:
            beside[each.track, _kind(each.name), each.began_ns] = track
        duration_ns = each.ended_ns - each.began_ns
        yield {
            "ph": "X", "pid": _PID, "tid": tracks[track], "name": each.name, "cat": each.track.partition(":")[0],
            "ts": (each.began_ns - base_ns) / 1e3, "dur": duration_ns / 1e3, "args": each.facts,
        }  # fmt: skip
    yield from _arrows(journal, tracks, beside, base_ns)
    for track, number in tracks.items():
        yield _meta("thread_name", number, {"name": track})
        yield _meta("thread_sort_index", number, {"sort_index": number})


def _numbered(tracks: Iterable[str]) -> dict[str, int]:
    """Numbers of tracks from above to below: Perfetto shows them by these, whatever their sort_index. A thread that has
    the number of its process would be called its main thread."""
    return {track: number for number, track in enumerate(sorted(tracks, key=_place), _PID + 1)}


def left_out(journal: Journal) -> str:
    """What the trace does not show."""
    return f"{count(journal.left_out, 'frame')} before these left out"


def save_trace(journal: Journal, path: Path, operators: Sequence[Slice] = ()) -> Path:
    """Write the trace to ``path``, whole or not at all, and log what is not in it; raises SinkError."""
    try:
        with replacing(path) as partial, open(partial, "wb") as file:
            file.writelines(_pieces(journal, operators))
    except OSError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error
    if journal.left_out:
        log.warning("%s: %s, so that memory is bounded; --limit takes a shorter run", path, left_out(journal))
    return path


def _slices(journal: Journal) -> Iterator[Slice]:
    workers = {batch.times: batch.worker for batch in journal.batches}
    frames: dict[tuple[int, int, int], list[str]] = {}
    for stream, journeys in journal.journeys.items():
        for marks in journeys:
            yield from _journey(stream, marks, workers.get(batch_times(marks), ""))
            if marks[Mark.INFER]:
                frames.setdefault(batch_times(marks), []).append(f"{stream}#{marks[FRAME]}")
    for batch in journal.batches:
        together = frames.get(batch.times, [])
        facts = {"batch": batch.number, "items": batch.items, "frames": together}
        yield Slice(batch.worker, f"infer {batch.items}", batch.began_ns, batch.inferred_ns, facts)
        yield Slice(batch.worker, "postprocess", batch.inferred_ns, batch.parsed_ns, {"batch": batch.number})
    for sink, writes in journal.writes.items():
        for write in writes:
            facts = {"stream": write.stream, "frame": write.frame}
            yield Slice(f"write:{sink}", "write", write.began_ns, write.ended_ns, facts)
    for pause in journal.pauses:
        yield Slice("gc", f"generation {pause.generation}", pause.began_ns, pause.ended_ns, {})


def _journey(stream: str, marks: list[int], worker: str) -> Iterator[Slice]:
    facts: dict[str, Any] = {"stream": stream, "frame": marks[FRAME], "pts_s": marks[PTS] / 1e9}
    if not marks[Mark.FOLLOWED]:
        facts["lost_in"] = ended_in(marks)
    before_ns = marks[Mark.READ]
    for mark in list(Mark)[1:]:
        at_ns = marks[mark]
        if not at_ns:
            continue
        if mark in _WORK:
            thread = {Mark.FOLLOWED: "follow", Mark.MADE: worker}.get(mark) or f"read:{stream}"
            yield Slice(thread, _WORK[mark], before_ns, at_ns, facts)
        elif PARTS[mark] in WAITS and at_ns > before_ns:
            yield Slice(f"wait:{stream}", PARTS[mark], before_ns, at_ns, facts)
        before_ns = at_ns


def _side_by_side(slices: Iterable[Slice]) -> Iterator[tuple[Slice, str]]:
    """Each slice with a track on which nothing overlaps it: of two that do, the later one gets a track beside."""
    free_ns: dict[str, list[int]] = {}
    for each in sorted(slices, key=lambda one: one.began_ns):
        ends = free_ns.setdefault(each.track, [])
        row = next((row for row, end_ns in enumerate(ends) if end_ns <= each.began_ns), len(ends))
        ends[row : row + 1] = [each.ended_ns]
        yield each, each.track if row == 0 else f"{each.track} ({row + 1})"


def _arrows(journal: Journal, tracks: dict[str, int], beside: Beside, base_ns: int) -> Iterator[Event]:
    """Of each frame that came to a worker: from its reader over whoever prepared it, its batch and ``follow`` to the
    sink that was last. Each stop is where a slice begins, on the track where that was drawn."""
    workers = {batch.times: batch.worker for batch in journal.batches}
    last = {
        (write.stream, write.frame, write.began_ns): sink for sink, writes in journal.writes.items() for write in writes
    }
    number = 0
    for stream, journeys in journal.journeys.items():
        for marks in journeys:
            worker = workers.get(batch_times(marks), "")
            sink = last.get((stream, marks[FRAME], marks[Mark.SINK]))
            stops = [
                (f"read:{stream}", "decode", 0 if marks[Mark.PREPARED] else marks[Mark.READ]),
                (f"read:{stream}", "preprocess", marks[Mark.PREPARED] and marks[Mark.PREPARE]),
                (worker, "preprocess", marks[Mark.MAKE]),
                (worker, "infer", marks[Mark.INFER]),
                ("follow", "follow", marks[Mark.FOLLOW]),
                (f"write:{sink}", "write", marks[Mark.SINK]),
            ]
            drawn = [(beside.get((track, kind, at_ns), track), at_ns) for track, kind, at_ns in stops if at_ns]
            passed = [(tracks[track], at_ns) for track, at_ns in drawn if track in tracks]
            if len(passed) < 2:
                continue
            number += 1
            for place, (tid, at_ns) in enumerate(passed):
                kind = "s" if place == 0 else "f" if place == len(passed) - 1 else "t"
                event = {"ph": kind, "id": number, "pid": _PID, "tid": tid, "name": "frame", "cat": "frame"}
                yield event | {"ts": (at_ns - base_ns) / 1e3} | ({} if kind == "s" else {"bp": "e"})


def _kind(name: str) -> str:
    """Of a slice: ``infer`` of ``infer 4``."""
    return name.partition(" ")[0]


def _meta(name: str, number: int, arguments: dict[str, Any]) -> Event:
    return {"ph": "M", "pid": _PID, "tid": number, "name": name, "args": arguments}


def _place(track: str) -> tuple[int, str, int]:
    """By kind and name, and then, of those that lie side by side, by their row."""
    beside = _BESIDE.search(track)
    name = track if beside is None else track[: beside.start()]
    kind = name.partition(":")[0].partition(" ")[0]
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER), name, 1 if beside is None else int(beside[1])
