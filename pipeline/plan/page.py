# SPDX-License-Identifier: Apache-2.0
"""``plan.html``: a plan to hand on, one file without scripts and without a network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

from pipeline.figures import NOTHING, count, duration, memory, milliseconds, percent, rate
from pipeline.plan.pictures import INKS, batches, latencies, load
from pipeline.plan.wording import busy_line, growth_line, headline, limit_line, proof_line
from pipeline.report.document import document, no_pictures
from pipeline.report.markup import facts, machine_panel, pill, prose, table, tile
from pipeline.report.model import model_panel

_LEGEND: Final = (
    "End to end is from the reading of a frame's packet until the last sink was done with its result. Decoding, "
    "preprocessing, the network and the sinks were measured on this machine, beside each other, in CPU time; what they "
    "come to together was simulated with the scheduler that also runs the cameras, and then measured on copies of "
    "them. Ratios are predicted over measured."
)


def page(plan: Mapping[str, Any]) -> str:
    """The plan as an HTML document."""
    planned = {name: stream for name, stream in plan["streams"].items() if stream["state"] == "planned"}
    parts = [
        _header(plan, len(planned)),
        _tiles(plan),
        _remarks(plan),
        f'<div class="columns">{_proof(plan)}{_load(plan)}</div>',
        _headroom(plan),
        _streams(planned),
        f'<div class="columns">{_network(plan)}{_assumptions(plan)}</div>',
        f'<div class="columns">{model_panel(plan["model"])}{machine_panel(plan)}</div>',
        f"<footer>{no_pictures()}<p>{escape(_LEGEND)}</p><p>video-pipeline {escape(str(plan['version']))}</p></footer>",
    ]
    return document(headline(plan), parts)


def _header(plan: Mapping[str, Any], streams: int) -> str:
    created = str(plan["created"])[:19].replace("T", " ")
    found = plan["verdict"]
    word = "sustainable" if found["sustainable"] else "not sustainable"
    if found["borne_out"] is False:
        word = "not confirmed"
    return (
        f'<header><p class="eyebrow">pipeline plan · {escape(str(plan["file"]))} · {escape(created)} UTC</p>'
        f"<h1>{escape(count(streams, 'stream'))} on this machine {pill(word)}</h1>"
        f'<p class="lead">{escape(_sentence(plan))}</p></header>'
    )


def _sentence(plan: Mapping[str, Any]) -> str:
    text = headline(plan)
    return f"{text[:1].upper()}{text[1:]}."


def _tiles(plan: Mapping[str, Any]) -> str:
    predicted, more, proof = plan["predicted"], plan["headroom"], plan["proof"]
    measured = "" if proof is None else f"{rate(proof['fps'])} measured"
    measured_p99 = "" if proof is None else f"{milliseconds(proof['p99_ms'])} ms measured"
    possible, left = predicted["sustainable_fps"] or None, "a tenth of the cores left free"
    none = "no rate keeps every latency_budget_ms" if predicted["late"] else "none was found"
    tiles = [
        tile("Asked for", rate(predicted["wanted_fps"]), "fps", "frames to be processed"),
        tile("Predicted", rate(predicted["fps"]), "fps", measured),
        tile("Sustainable", rate(possible), "fps", left if possible else none),
        tile("End to end, p99", milliseconds(predicted["p99_ms"]), "ms", measured_p99),
        tile(
            "More such cameras" if more["cameras"] >= 0 else "Cameras too many",
            str(abs(more["cameras"])),
            "",
            _growth_remark(plan),
        ),
    ]
    return f'<section class="tiles">{"".join(tiles)}</section>'


def _growth_remark(plan: Mapping[str, Any]) -> str:
    growth = plan["headroom"]["proof"]
    if growth is None:
        return "with the same left free"
    return "tried, and they kept up" if growth["kept_up"] else "tried, and not confirmed"


def _remarks(plan: Mapping[str, Any]) -> str:
    items = [
        f'<li class="error"><b>{escape(name)}</b> was left out: {escape(stream["error"])}</li>'
        for name, stream in plan["streams"].items()
        if stream["state"] == "unreachable"
    ]
    if plan["verdict"]["borne_out"] is False:
        items.append(f'<li class="warning">Not confirmed: {escape("; ".join(plan["verdict"]["against"]))}.</li>')
    if (line := busy_line(plan)) is not None:
        items.append(f'<li class="warning">{escape(_upper(line))}.</li>')
    if not items:
        return ""
    return f'<section><h2>What to know</h2><ul class="findings">{"".join(items)}</ul></section>'


def _proof(plan: Mapping[str, Any]) -> str:
    predicted, proof = plan["predicted"], plan["proof"]
    lead = f"{proof_line(plan)}."
    if proof is not None:
        lead = f"The pipeline ran on copies of the streams for {duration(proof['seconds'])}; {lead}"
    rows = []
    known = [("frames per second", "fps", rate), *((f"p{p}, ms", f"p{p}_ms", milliseconds) for p in (50, 90, 95, 99))]
    for label, key, write in (*known, ("cores busy", "cores", rate), ("memory", "memory_mb", memory)):
        measured = None if proof is None else proof[key]
        ratio = f"{predicted[key] / measured:.2f}" if measured and predicted[key] else NOTHING
        rows.append([label, write(predicted[key]), write(measured), ratio])
    key = (
        '<ul class="legend"><li><i class="key queue"></i>predicted (dashed)</li>'
        '<li><i class="key accent"></i>measured</li></ul>'
    )
    picture = latencies(predicted, proof)
    shown = f"<figure><figcaption>Frames done within <span>end to end</span></figcaption>{picture}{key}</figure>"
    return (
        f'<section><h2>Predicted and measured</h2><div class="panel"><p class="lead">{escape(_upper(lead))}</p>'
        f"{table(('', 'predicted', 'measured', 'ratio'), rows)}{shown if picture else ''}</div></section>"
    )


def _load(plan: Mapping[str, Any]) -> str:
    predicted, measured = plan["predicted"], plan["measured"]
    names = "".join(f'<li><i class="key {stage}"></i>{name}</li>' for name, stage in INKS.items())
    whole = sum(predicted["use"].values()) or 1.0
    rows = [
        [name, f"{predicted['use'].get(name, 0.0):.2f}", percent(predicted["use"].get(name, 0.0) / whole)]
        for name in INKS
    ]
    picture = load(predicted, measured["cores"])
    return (
        f'<section><h2>What limits it</h2><div class="panel"><p class="lead">{prose(_upper(limit_line(plan)))}.</p>'
        f'{picture}<ul class="legend">{names}</ul>{table(("", "cores", "share"), rows)}</div></section>'
    )


def _headroom(plan: Mapping[str, Any]) -> str:
    more, line = plan["headroom"], growth_line(plan)
    tried = "" if line is None else f'<p class="lead">{escape(_upper(line))}.</p>'
    kinds = _kinds(plan) if len(more["by_kind"]) > 1 else ""
    if not tried and not kinds:
        return ""
    return f'<section><h2>What else would fit</h2><div class="panel">{tried}{kinds}</div></section>'


def _kinds(plan: Mapping[str, Any]) -> str:
    more, rows = plan["headroom"], []
    for name, number in more["by_kind"].items():
        stream = plan["streams"][name]
        about = f"{stream['codec']} {stream['width']} x {stream['height']}, {rate(stream['wanted_fps'])} fps"
        rows.append([f"like {name}", about, str(number)])
    return table(("one kind by itself", "", "more would fit"), rows)


def _streams(streams: Mapping[str, Mapping[str, Any]]) -> str:
    head = (
        *("stream", "picture", "network", "fps", "asked"),
        *("decode, ms", "prepare, ms", "predicted fps", "p99, ms", "measured fps", "p99, ms"),
    )
    rows = []
    for name, stream in streams.items():
        height, width = stream["input"]
        predicted, measured = stream["predicted"], stream["measured"] or {}
        rows.append(
            [
                name,
                f"{stream['codec']} {stream['width']} x {stream['height']}",
                f"{width} x {height}",
                rate(stream["fps"]),
                rate(stream["wanted_fps"]),
                milliseconds(stream["decode_ms"] + stream["isolation_ms"]),
                milliseconds(stream["preprocess_ms"]),
                rate(predicted["fps"]),
                milliseconds(predicted["p99_ms"]),
                rate(measured.get("fps")),
                milliseconds(measured.get("p99_ms")),
            ]
        )
    return f'<section><h2>{count(len(streams), "stream")}</h2><div class="panel">{table(head, rows)}</div></section>'


def _network(plan: Mapping[str, Any]) -> str:
    network = plan["measured"]["network"]
    rows = [
        [
            f"{row['input'][1]} x {row['input'][0]}",
            str(row["batch"]),
            milliseconds(row["cpu_ms"] + row["device_ms"]),
            milliseconds(row["ms_per_frame"]),
        ]
        for row in network
    ]
    pairs = [
        (f"sink {name}, per result", f"{milliseconds(cost)} ms") for name, cost in plan["measured"]["sinks_ms"].items()
    ]
    pairs.append(("everything else, per frame", f"{milliseconds(plan['measured']['overhead_ms'])} ms"))
    content = table(("input", "batch", "ms a batch", "ms a frame"), rows)
    shown = f"{batches(network)}{content}{facts(pairs)}"
    return f'<section><h2>What was measured</h2><div class="panel">{shown}</div></section>'


def _assumptions(plan: Mapping[str, Any]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in plan["assumptions"])
    return f'<section><h2>What is assumed</h2><div class="panel"><ul class="findings">{items}</ul></div></section>'


def _upper(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
