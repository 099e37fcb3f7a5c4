# SPDX-License-Identifier: Apache-2.0
"""Frames that did not go well, told of each stream while those are few, else of all of them in one line a kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, Literal

from pipeline.figures import count, duration, percent
from pipeline.report.finding import Finding

FEW: Final = 2
"""So many streams have a line each."""

USUALLY_LATE: Final = 0.01
"""A playout delay of about the p99 of end-to-end times leaves as many results out."""

# Reasons that mean that something broke; the others are what the user asked for or what a stop costs.
_BROKEN: Final = ("inference_error", "stage_error")

MUCH_BEHIND_S: Final = 1.0
"""What a recording that plays a camera was behind at its end; less is a hiccup."""

_Stream = Mapping[str, Any]


def about_frames(streams: Mapping[str, _Stream]) -> Iterator[Finding]:
    """What there is to say about the frames of all streams."""
    broken = {name: stream for name, stream in streams.items() if lost_to_errors(stream)}
    others = {name: stream for name, stream in streams.items() if name not in broken}
    yield from _dropped("error", broken)
    yield from _dropped("warning", others)
    yield from _counted(streams, "decode_errors", "packet", "could not be decoded")
    yield from _late(streams)
    yield from _missed(streams)
    yield from _behind(streams)
    yield from _counted(streams, "corrupt", "frame", "flagged as damaged by the decoder")
    yield from _away(streams)


def reasons(counts: Mapping[str, int]) -> str:
    """``stale 12, overflow 3``: most frequent first."""
    return ", ".join(f"{reason} {number:,}" for reason, number in sorted(counts.items(), key=lambda item: -item[1]))


def lost_to_errors(stream: _Stream) -> bool:
    """Whether it lost frames because something broke."""
    return any(stream["frames"]["dropped"].get(reason) for reason in _BROKEN)


def _dropped(severity: Literal["error", "warning"], streams: Mapping[str, _Stream]) -> Iterator[Finding]:
    losses = {name: stream["frames"]["dropped"] for name, stream in streams.items() if stream["frames"]["dropped"]}
    if len(losses) <= FEW:
        for name, lost in losses.items():
            yield Finding(severity, name, f"{count(sum(lost.values()), 'frame')} dropped ({reasons(lost)})")
        return
    total = _together(losses.values())
    why = reasons(total) if len(total) > 1 else next(iter(total))
    text = f"{len(losses)} streams dropped {count(sum(total.values()), 'frame')}: {why}"
    yield Finding(severity, "", text + _most({name: sum(lost.values()) for name, lost in losses.items()}))


def _counted(streams: Mapping[str, _Stream], key: str, noun: str, what: str) -> Iterator[Finding]:
    numbers = {name: stream["frames"][key] for name, stream in streams.items() if stream["frames"][key]}
    yield from _few_or_all(numbers, lambda name: f"{count(numbers[name], noun)} {what}", f"{noun}s {what}")


def _away(streams: Mapping[str, _Stream]) -> Iterator[Finding]:
    """Of streams that broke off and came back; frames of the time between were never seen, so nothing counts them."""
    numbers = {name: stream["reconnects"] for name, stream in streams.items() if stream.get("reconnects")}
    yield from _few_or_all(numbers, lambda name: f"reconnected {_times(numbers[name])}", "reconnects")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def _late(streams: Mapping[str, _Stream]) -> Iterator[Finding]:
    """Of frames over the budget of their stream."""
    late = {
        name: stream
        for name, stream in streams.items()
        if (stream.get("late") or {}).get("by") == "budget" and stream["late"]["frames"]
    }
    parts = _together(stream["late"]["parts"] for stream in late.values())

    def one(name: str) -> str:
        found = late[name]["late"]
        worst = "".join(f"; frame {slow['frame']}: {slow['verdict']}" for slow in late[name]["slow_frames"][:1])
        return (
            f"{count(found['frames'], 'frame')} over the budget of {found['limit_ms']:g} ms "
            f"({reasons(found['parts'])}){worst}"
        )

    numbers = {name: stream["late"]["frames"] for name, stream in late.items()}
    yield from _few_or_all(numbers, one, f"frames over their budgets ({reasons(parts)})")


def _missed(streams: Mapping[str, _Stream]) -> Iterator[Finding]:
    """Of results that were ready after the time at which they should have left."""
    timed = {name: stream["playout"] for name, stream in streams.items() if stream.get("playout")}
    given = {name: told for name, told in timed.items() if told["percentile"] is None}
    held = {name: told for name, told in given.items() if (told["late_share"] or 0.0) > USUALLY_LATE}

    def one(name: str) -> str:
        told = held[name]
        what = f"{count(told['late'], 'result')} ({percent(told['late_share'], 1)}) came too late"
        return f"{what} for a playout_delay_ms of {told['delay_ms']:g}"

    numbers = {name: told["late"] for name, told in held.items()}
    yield from _few_or_all(numbers, one, "results came too late for their playout_delay_ms")


def _behind(streams: Mapping[str, _Stream]) -> Iterator[Finding]:
    """Of recordings that were to play at their own pace: a camera would have lost frames where they wait."""
    behind_s = {name: (stream.get("behind_ms") or 0.0) / 1e3 for name, stream in streams.items()}
    found = {name: seconds for name, seconds in behind_s.items() if seconds >= MUCH_BEHIND_S}
    if len(found) <= FEW:
        yield from (Finding("warning", name, f"fell {duration(found[name])} behind its own pace") for name in found)
        return
    most = max(found, key=lambda name: found[name])
    text = f"{len(found)} streams fell behind their own pace; most: {most} {duration(found[most])}"
    yield Finding("warning", "", text)


def _few_or_all(numbers: Mapping[str, int], one: Callable[[str], str], what: str) -> Iterator[Finding]:
    if len(numbers) <= FEW:
        yield from (Finding("warning", name, one(name)) for name in numbers)
        return
    text = f"{len(numbers)} streams: {sum(numbers.values()):,} {what}"
    yield Finding("warning", "", text + _most(numbers))


def _most(numbers: Mapping[str, int]) -> str:
    """Who has most of them, where somebody has more than the others."""
    name = max(numbers, key=lambda each: numbers[each])
    return f"; most: {name} {numbers[name]:,}" if numbers[name] > min(numbers.values()) else f"; {numbers[name]:,} each"


def _together(counts: Collection[Mapping[str, int]] | Iterator[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total
