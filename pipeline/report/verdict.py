# SPDX-License-Identifier: Apache-2.0
"""What is to be said about a run, in the order of its weight, and the exit code that follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.figures import count
from pipeline.report.finding import Finding
from pipeline.report.losses import about_frames, lost_to_errors, reasons

MANY = 100
"""In so many frames of what is filmed there should be something."""


def exit_code(report: Mapping[str, Any], strict: bool = False) -> int:
    """The exit code of a run that was not stopped from outside.

    0: all good. 1: no input was usable, a sink lost data, or the run itself failed. 3: partial, some streams failed or
    even one was truncated. With ``strict``, truncation and frames lost to errors give 1.

    A stream that delivered not one frame to the results although its decoder had some counts as failed.
    """
    if report.get("error") or any(_lost_data(sink) for sink in report["sinks"].values()):
        return 1
    streams = list(report["streams"].values())
    failed = sum(_failed(stream) for stream in streams)
    if not streams or failed == len(streams):
        return 1
    truncated = any(stream["state"] == "truncated" for stream in streams)
    if strict and (truncated or any(lost_to_errors(stream) for stream in streams)):
        return 1
    return 3 if failed or truncated else 0


def verdict(report: Mapping[str, Any]) -> str:
    """The run in one word: ``complete``, ``partial``, ``stopped`` or ``failed``."""
    code = exit_code(report)
    if code == 0 and any(stream["state"] == "stopped" for stream in report["streams"].values()):
        return "stopped"
    return {0: "complete", 1: "failed"}.get(code, "partial")


def findings(report: Mapping[str, Any]) -> list[Finding]:
    """Everything that did not go as it should, errors first."""
    found: list[Finding] = []
    if report.get("error"):
        found.append(Finding("error", "", report["error"]))
    for name, sink in report["sinks"].items():
        if sink["lost"]:
            total = sum(sink["lost"].values())
            why = f": {sink['error']}" if sink.get("error") else ""
            again = "; its files have gaps: replay once more" if report.get("command") == "replay" else ""
            text = f"lost {count(total, 'result')} ({reasons(sink['lost'])}){why}{again}"
            found.append(Finding("error", name, text))
        elif _lost_data(sink) or sink["state"] != "ok":
            found.append(
                Finding("error", name, f"{sink['state']}: {sink.get('error') or 'a file could not be finished'}")
            )
    found.extend(_about_model(report.get("model") or {}))
    found.extend(_about_recording(report.get("recording") or {}))
    found.extend(_about_arrivals(report.get("arrivals") or {}))
    found.extend(_about_stopped(report["streams"]))
    for name, stream in report["streams"].items():
        found.extend(_about_state(name, stream))
    found.extend(about_frames(report["streams"]))
    found.extend(_about_detections(report["streams"].values()))
    weight = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda finding: weight[finding.severity])


def dropped(report: Mapping[str, Any]) -> Counter[str]:
    """Frames dropped in all streams of this run, by reason."""
    total: Counter[str] = Counter()
    for stream in report["streams"].values():
        if not stream.get("resumed"):
            total.update(stream["frames"]["dropped"])
    return total


def detections(report: Mapping[str, Any]) -> int:
    """Detections of all streams of this run."""
    return sum(stream.get("detections", 0) for stream in report["streams"].values() if not stream.get("resumed"))


def _lost_data(sink: Mapping[str, Any]) -> bool:
    return bool(sink["lost"] or sink.get("faults")) or sink["state"] == "failed"


def _about_detections(streams: Collection[Mapping[str, Any]]) -> list[Finding]:
    """Of a run that found nothing at all."""
    counted = [stream for stream in streams if "detections" in stream and not stream.get("resumed")]
    frames = sum(stream["frames"]["processed"] for stream in counted)
    if frames < MANY or any(stream["detections"] for stream in counted):
        return []
    what = f"nothing was found in {count(frames, 'frame')}"
    return [Finding("note", "", f"{what}; if there is something to be seen, look at confidence and classes")]


def _about_model(model: Mapping[str, Any]) -> list[Finding]:
    rows, frames = model.get("nonfinite_rows", 0), model.get("nonfinite_frames", 0)
    if not rows:
        return []
    text = f"{count(rows, 'detection')} of {count(frames, 'frame')} removed: not a number or infinite"
    return [Finding("warning", "model", f"{text}; is the input normalised as the model expects?")]


def _about_recording(recording: Mapping[str, Any]) -> list[Finding]:
    """Of a run whose arrivals were recorded."""
    kinds = {"lost": "packet", "lines_lost": "line"}
    counts = [count(recording[key], kind) for key, kind in kinds.items() if recording.get(key)]
    lost = f"{' and '.join(counts)} not recorded" if counts else ""
    if recording.get("reason"):
        text = f"the recording in {recording['folder']} ended before the run: {recording['reason']}"
        return [Finding("warning", "", f"{text}; {lost}" if lost else text)]
    return [Finding("warning", "", f"{lost}: the disk was too slow")] if lost else []


def _about_arrivals(played: Mapping[str, Any]) -> list[Finding]:
    """Of a replay of recorded arrivals."""
    why = "it was never reached, has no packets of its own here, or its folder is gone"
    found = [Finding("warning", name, f"nothing of it is in the recording: {why}") for name in played.get("absent", ())]
    if played.get("lost_then"):
        found.append(Finding("warning", "", f"{count(played['lost_then'], 'packet')} could not be recorded"))
    if played.get("torn"):
        found.append(Finding("warning", "", f"{count(played['torn'], 'packet')} of the recording torn and left out"))
    return found


def _about_state(name: str, stream: Mapping[str, Any]) -> list[Finding]:
    why = stream.get("error") or "no reason given"
    match stream["state"]:
        case "failed":
            return [Finding("error", name, f"failed: {why}")]
        case "truncated":
            return [Finding("warning", name, f"truncated: {why}")]
        case "stopped" if stream.get("error"):
            frames = count(stream["frames"]["decoded"], "frame")
            return [Finding("warning", name, f"was down when it was stopped, after {frames}: {stream['error']}")]
    return []


def _about_stopped(streams: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Those that went on well until they were stopped, in one line: whoever stopped them knows."""
    well = [name for name, stream in streams.items() if stream["state"] == "stopped" and not stream.get("error")]
    frames = count(sum(streams[name]["frames"]["decoded"] for name in well), "frame")
    if not well:
        return []
    if len(well) == 1:
        return [Finding("note", well[0], f"stopped after {frames}")]
    return [Finding("note", "", f"{count(len(well), 'stream')} stopped, after {frames} together")]


def state_in_a_word(stream: Mapping[str, Any]) -> str:
    """Its state as people are told it: ``resumed`` where an earlier run finished it, ``down`` where it was away when it
    was stopped."""
    if stream.get("resumed"):
        return "resumed"
    return "down" if stream["state"] == "stopped" and stream.get("error") else str(stream["state"])


def _failed(stream: Mapping[str, Any]) -> bool:
    frames = stream["frames"]
    unusable = stream["state"] == "truncated" and not frames["decoded"]
    return stream["state"] == "failed" or unusable or (lost_to_errors(stream) and not frames["processed"])
