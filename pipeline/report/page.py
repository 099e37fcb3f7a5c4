# SPDX-License-Identifier: Apache-2.0
"""``report.html``: one file to look at, without scripts and without a network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pipeline.figures import NOTHING, count, duration, memory, milliseconds, percent, rate
from pipeline.report.bars import stage_bar
from pipeline.report.camera import camera_facts
from pipeline.report.charts import batches
from pipeline.report.document import document, no_pictures
from pipeline.report.limits import limit_panel
from pipeline.report.lives import names
from pipeline.report.losses import reasons
from pipeline.report.markup import (
    facts,
    jitter_table,
    machine_panel,
    narrow_stage_table,
    pill,
    stage_table,
    table,
    tile,
)
from pipeline.report.model import model_panel
from pipeline.report.overview import overview
from pipeline.report.pictures import PICTURED, course_of_all, of_all, of_stream, pictured
from pipeline.report.verdict import findings, state_in_a_word, verdict
from pipeline.report.waiting import waited_in_queue

_LEGEND = (
    "A stage is the time that a frame itself spent there, so the stages of a frame add up to its end-to-end time: "
    "from the reading of its packet until the last sink was done with it. Queue is every wait between two stages: a "
    "recording that is read faster than the model works waits there, and so does a frame of a stream with B-frames "
    "that the decoder keeps until its turn. Jitter is the smoothed change from one frame to "
    "the next (the filter of RFC 3550). Transit is the unsteadiness of the delay since capture at a part's exit (RFC "
    "3550's interarrival jitter), interval the standard deviation between two frames there; added is what the part "
    "itself made of it, less than nothing where it smoothed. A frame is late over the "
    "budget of its stream, or, without one, when it took longer than 99 of 100 and by so much that "
    "it matters; the limit is the one that held then."
)
_SHOWN_FINDINGS = 12
_OPEN_CARDS = 4  # so many streams show their tables without a click


def page(report: Mapping[str, Any]) -> str:
    """The report as an HTML document."""
    streams = report["streams"]
    chosen = pictured(streams)
    cards = "".join(
        _card(
            name,
            stream,
            len(streams) <= _OPEN_CARDS,
            of_stream(stream, len(streams) <= _OPEN_CARDS) if name in chosen else "",
        )
        for name, stream in streams.items()
    )
    parts = [
        _header(report),
        _tiles(report),
        _findings(report),
        _total(report),
        course_of_all(report, limit_panel(report)),
        f"<section><h2>{count(len(names(streams)), 'stream')}</h2>{_stages_legend(report, len(chosen))}"
        f'{overview(streams) if len(streams) > _OPEN_CARDS else ""}<div class="cards">{cards}</div></section>',
        f'<div class="columns">{_batches(report)}{_sinks(report)}</div>',
        f'<div class="columns">{model_panel(report["model"])}{machine_panel(report)}</div>',
        f"<footer>{no_pictures()}{_words(report)}<p>video-pipeline {escape(str(report['version']))}</p></footer>",
    ]
    return document(f"{report['command']}: {verdict(report)}", parts)


def _header(report: Mapping[str, Any]) -> str:
    created = str(report.get("created", ""))[:19].replace("T", " ")
    title = f"{count(report['frames'], 'frame')}, {count(len(names(report['streams'])), 'stream')}"
    when = f" · {escape(created)} UTC" if created else ""
    return (
        f'<header><p class="eyebrow">pipeline {escape(str(report["command"]))}{when}</p>'
        f"<h1>{escape(title)} {pill(verdict(report))}</h1></header>"
    )


def _tiles(report: Mapping[str, Any]) -> str:
    wall_s, cpu_s = report["wall_s"], report["cpu_s"]
    busy = f"{cpu_s / wall_s:.2f} cores busy" if wall_s else ""
    first_ms = report["first_result_ms"]
    slow = (report["total"].get("end_to_end") or {}).get("p95_ms")
    waited = waited_in_queue(report)
    part = (
        "packet read to last sink" if waited is None else f"{percent(waited)} in the queue: read faster than computed"
    )
    tiles = [
        tile("Throughput", rate(report["fps"]), "fps", f"{count(report['frames'], 'frame')} in {duration(wall_s)}"),
        tile(
            "First result", *_split(duration(None if first_ms is None else first_ms / 1e3)), "after the first opening"
        ),
        tile("End to end, p95", *_split(duration(None if slow is None else slow / 1e3)), part),
        tile("CPU time", *_split(duration(cpu_s)), busy),
        tile("Peak memory", *_split(memory(report["peak_rss_mb"])), "resident"),
    ]
    return f'<section class="tiles">{"".join(tiles)}</section>'


def _findings(report: Mapping[str, Any]) -> str:
    found = findings(report)
    if not found:
        return ""
    items = [
        f'<li class="{finding.severity}">'
        + (f"<b>{escape(finding.subject)}</b> " if finding.subject else "")
        + f"{escape(finding.text)}</li>"
        for finding in found
    ]
    shown = f'<ul class="findings">{"".join(items[:_SHOWN_FINDINGS])}</ul>'
    if more := items[_SHOWN_FINDINGS:]:
        rest = f'<ul class="findings">{"".join(more)}</ul>'
        shown += f"<details><summary>and {len(more)} more</summary>{rest}</details>"
    return f"<section><h2>What to know</h2>{shown}</section>"


def _total(report: Mapping[str, Any]) -> str:
    total = report["total"]
    if not total.get("end_to_end"):
        return ""
    return (
        f'<section><h2>Where the time of a frame goes</h2><div class="panel">{of_all(total)}{stage_table(total)}</div>'
        "</section>"
    )


def _words(report: Mapping[str, Any]) -> str:
    """What the words of the tables mean, where there are tables."""
    return f"<p>{escape(_LEGEND)}</p>" if report["total"].get("end_to_end") else ""


def _stages_legend(report: Mapping[str, Any], pictures: int) -> str:
    """What the colours of the bars mean, and of whom there are pictures."""
    names = "".join(
        f'<li><i class="key {escape(stage)}"></i>{escape(stage)}</li>' for stage in report["total"]["stages"]
    )
    legend = f'<ul class="legend">{names}</ul>' if names else ""
    if len(report["streams"]) > PICTURED:
        legend += f'<p class="lead">There are pictures of the {pictures} slowest, by end-to-end p95.</p>'
    return legend


def _card(name: str, stream: Mapping[str, Any], is_open: bool, pictures: str) -> str:
    frames, jitter = stream["frames"], stream["jitter"]
    whole = stream.get("end_to_end")
    error = f'<p class="error">{escape(stream["error"])}</p>' if stream.get("error") else ""
    figures = [
        ("frames", f"{frames['processed']:,}"),
        ("detections", f"{stream.get('detections', 0):,}"),
        ("fps", rate(stream["fps"])),
        ("p95, ms", milliseconds(whole["p95_ms"]) if whole else NOTHING),
        ("first, ms", milliseconds(stream["first_result_ms"])),
    ]
    shown = "".join(f"<div><dt>{label}</dt><dd>{escape(value)}</dd></div>" for label, value in figures)
    details = facts(
        [
            ("decoded", f"{frames['decoded']:,}"),
            ("dropped", reasons(frames["dropped"])),
            ("decimated", f"{frames['decimated']:,}" if frames["decimated"] else None),
            ("flagged as damaged", frames["corrupt"] or None),
            ("packets not decoded", frames["decode_errors"] or None),
            ("decoded by", stream["decoder"] if stream.get("decoder") not in (None, "cpu") else None),
            ("reconnects", stream.get("reconnects") or None),
            ("arrival jitter", _with_ms(jitter["arrival_ms"])),
            ("departure jitter", _with_ms(jitter["departure_ms"])),
            *camera_facts(stream.get("camera")),
        ]
    )
    resumed = '<p class="note">finished in an earlier run, skipped in this one</p>' if stream.get("resumed") else ""
    times = ""
    if whole:
        opened = " open" if is_open else ""
        times = (
            f"{stage_bar(stream['stages'])}<details{opened}><summary>stages</summary>"
            f"{narrow_stage_table(stream)}</details>"
        )
    if jitter.get("exits"):
        times += f"<details><summary>jitter, and who added it</summary>{jitter_table(jitter['exits'])}</details>"
    return (
        f'<article class="card"><h3>{escape(name)} {pill(state_in_a_word(stream))}</h3>{error}{resumed}'
        f'<dl class="figures">{shown}</dl>{times}{pictures}{details}</article>'
    )


def _batches(report: Mapping[str, Any]) -> str:
    ran = report["batches"]
    if not ran["count"]:
        return ""
    return (
        f'<section><h2>Batches</h2><div class="panel"><p class="lead">{count(ran["count"], "batch", "batches")}, '
        f"{ran['mean_size']:.3g} frames each on average</p><figure>{batches(ran['sizes'])}</figure></div></section>"
    )


def _sinks(report: Mapping[str, Any]) -> str:
    if not report["sinks"]:
        return ""
    rows = [
        [name, sink["state"], f"{sink['received']:,}", f"{sink['written']:,}", reasons(sink["lost"]) or "none"]
        for name, sink in report["sinks"].items()
    ]
    content = table(("sink", "state", "received", "written", "lost"), rows)
    return f'<section><h2>Sinks</h2><div class="panel">{content}</div></section>'


def _with_ms(value: float | None) -> str | None:
    return None if value is None else f"{milliseconds(value)} ms"


def _split(text: str) -> tuple[str, str]:
    """``12.3 s`` as value and unit; longer texts stay whole."""
    value, _, unit = text.partition(" ")
    return (value, unit) if " " not in unit else (text, "")
