# SPDX-License-Identifier: Apache-2.0
"""What is said about each mistake in a streams.yaml, and what runs all the same."""

from __future__ import annotations

import pytest

from pipeline.config import parse_config
from pipeline.errors import ConfigError
from tests.configs import GOOD, faults, load

GLOBAL_FAULTS = [
    ("modle: {}\n" + GOOD, "1:1: modle: unknown key; did you mean 'model'?"),
    ("cameras: []\n" + GOOD, "1:1: cameras: unknown key; did you mean 'streams'?"),
    ("fps: 5\n" + GOOD, "1:1: fps: unknown key here; it belongs in 'defaults' or an entry of 'streams'"),
    (
        "colour: 5\n" + GOOD,
        "1:1: colour: unknown key; expected model, batch, defaults, streams, sinks, server or telemetry",
    ),
    ("", "1:1: streams: at least one stream is needed, such as {name: lobby, source: lobby.mp4}"),
    ("streams: []", "1:10: streams: at least one stream is needed, such as {name: lobby, source: lobby.mp4}"),
    ("streams: {a: {source: a.mp4}}", "1:10: streams: expected a list, found a mapping; begin each entry with '- '"),
    ("sinks: out\n" + GOOD, "1:8: sinks: expected a list, found text"),
    ("model: yolo.pt\n" + GOOD, "1:8: model: expected a mapping, found text"),
    (
        "model: {path: builtin:peple}\n" + GOOD,
        "1:15: model.path: no built-in model has this name; did you mean 'builtin:people'?",
    ),
    ("model: {confidence: 40}\n" + GOOD, "1:21: model.confidence: expected a number at most 1, found 40"),
    (
        "model: {confidence: '0.4'}\n" + GOOD,
        "1:21: model.confidence: expected a number, found text; a number stands without quotes",
    ),
    ("model: {iou: half}\n" + GOOD, "1:14: model.iou: expected a number, found text"),
    ("model: {iou: yes}\n" + GOOD, "1:14: model.iou: expected a number, found a truth value"),
    ("model: {threshold: 1}\n" + GOOD, "1:9: model.threshold: unknown key; did you mean 'confidence'?"),
    ("model: {device: gpu}\n" + GOOD, "1:17: model.device: expected auto, cpu, cuda, or cuda:0 for a certain one"),
    (
        "model: {precision: f16}\n" + GOOD,
        "1:20: model.precision: expected auto, fp32, bf16, fp16 or int8; did you mean 'fp16'?",
    ),
    ("model: {input: [640]}\n" + GOOD, "1:16: model.input: expected [height, width] in pixels"),
    ("model: {input: 8}\n" + GOOD, "1:16: model.input: expected [height, width] in pixels"),
    ("model: {classes: person}\n" + GOOD, "1:18: model.classes: expected a list, found text"),
    ("model: {classes: []}\n" + GOOD, "1:18: model.classes: expected a list of at least 1, found 0"),
    (
        "model: {classes: [no]}\n" + GOOD,
        "1:19: model.classes[0]: expected a class name or a class id from 0, found a truth",
    ),
    ("model: {sha256: 12}\n" + GOOD, "1:17: model.sha256: expected text, found a number; put it in quotes"),
    ("model: {sha256: abc}\n" + GOOD, "1:17: model.sha256: expected 64 hexadecimal digits"),
    ("model: {names: [a, 1]}\n" + GOOD, "1:20: model.names[1]: expected text, found a number; put it in quotes"),
    ("model: {path: ''}\n" + GOOD, "1:15: model.path: expected a path, found an empty text"),
    ("model: {path: ~/m.pt}\n" + GOOD, "1:15: model.path: ~ is not expanded; write the folder out"),
    ('model: {path: "${HOME}/m.pt"}\n' + GOOD, "1:15: model.path: ${...} is read in cert_file, key_file, password, "),
    ("batch: {max_size: 0}\n" + GOOD, "1:19: batch.max_size: expected auto, or a whole number from 1 to 256"),
    ("batch: {max_size: 1.5}\n" + GOOD, "1:19: batch.max_size: expected auto, or a whole number from 1 to 256"),
    ("batch: {max_wait_ms: -1}\n" + GOOD, "1:22: batch.max_wait_ms: expected a number at least 0, found -1"),
    ("batch: {workers: many}\n" + GOOD, "1:18: batch.workers: expected auto, or a whole number from 1 to 256"),
    ("defaults: {policy: latest}\n" + GOOD, "1:20: defaults.policy: expected freshest or every_frame"),
    ("defaults: {name: a}\n" + GOOD, "1:12: defaults.name: unknown key here; it belongs in an entry of 'streams'"),
    (
        "defaults: {enabled: true}\n" + GOOD,
        "1:12: defaults.enabled: unknown key here; it belongs in an entry of 'streams'",
    ),
    ("sinks: [jsonl]\n" + GOOD, "1:9: sinks[0]: expected a mapping such as {type: jsonl, path: ...}, found text"),
    ("sinks: [{path: a}]\n" + GOOD, "1:9: sinks[0].type: this key is missing; expected jsonl, csv, mot, coco or video"),
    (
        "sinks: [{type: json}]\n" + GOOD,
        "1:16: sinks[0].type: expected jsonl, csv, mot, coco or video; did you mean 'jsonl'?",
    ),
    ("sinks: [{type: csv}]\n" + GOOD, "1:9: sinks[0].path: this key is missing"),
    (
        "sinks: [{type: mot, path: a, rotate: {}}]\n" + GOOD,
        "1:30: sinks[0].rotate: unknown key here; it belongs in an entry of 'sinks'",
    ),
    ("sinks: [{type: csv, path: 'a/{name}.csv'}]\n" + GOOD, "1:27: sinks[0].path: the only placeholder is {stream}"),
    ("sinks: [{type: csv, path: 'a/{stream.csv'}]\n" + GOOD, "1:27: sinks[0].path: the only placeholder is {stream}"),
    ("sinks: [{type: csv, path: a/}]\n" + GOOD, "1:27: sinks[0].path: expected a file name at the end, not a folder"),
    ("sinks: [{type: coco, path: 'a/{stream}'}]\n" + GOOD, "1:28: sinks[0].path: expected the path of one folder"),
    (
        "sinks: [{type: jsonl, path: a, rotate: {max_mb: 0}}]\n" + GOOD,
        "1:49: sinks[0].rotate.max_mb: expected a number above 0, found 0",
    ),
    (
        "sinks: [{type: video, path: a, rotate: {segment_s: 90000, keep_days: 1}}]\n" + GOOD,
        "1:70: sinks[0].rotate.keep_days: less than one segment (segment_s) would be kept",
    ),
    (
        "sinks: [{type: video, path: a, rotate: {max_mb: 1}}]\n" + GOOD,
        "1:41: sinks[0].rotate.max_mb: unknown key; did you mean 'max_gb'?",
    ),
    (
        "sinks: [{type: video, path: a, rotate: {segment_s: 0.5}}]\n" + GOOD,
        "1:52: sinks[0].rotate.segment_s: expected a number at least 1, found 0.5",
    ),
    (
        "sinks: [{type: jsonl, path: a, rotate: {max: 1}}]\n" + GOOD,
        "1:41: sinks[0].rotate.max: unknown key; did you mean 'max_mb'?",
    ),
    (
        "sinks: [{type: jsonl, path: a, rotate: true}]\n" + GOOD,
        "1:40: sinks[0].rotate: expected a mapping, found a truth value",
    ),
    (
        "sinks: [{type: csv, path: a}, {type: mot, path: a}]\n" + GOOD,
        "1:49: sinks[1].path: sinks[0] writes to the same path",
    ),
    (
        "streams: [{name: a, source: a.mp4}, {name: b, source: b.mp4}]\nsinks: [{type: csv, path: a.csv}]",
        "2:27: sinks[0].path: 2 streams cannot share one file of this kind; write {stream} into the file name",
    ),
    ("server: {listen: 8080}\n" + GOOD, "1:18: server.listen: expected text, found a number; put it in quotes"),
    ("server: {listen: localhost}\n" + GOOD, "1:18: server.listen: expected an address and a port"),
    ("server: {listen: '::1:8080'}\n" + GOOD, "1:18: server.listen: an IPv6 address stands in brackets"),
    (
        "server: {listen: 0.0.0.0:8080}\n" + GOOD,
        "1:18: server.listen: an address that others can reach needs token_file",
    ),
    ("server: {tls: {cert_file: a}}\n" + GOOD, "1:15: server.tls.key_file: this key is missing"),
]


@pytest.mark.parametrize(("text", "expected"), GLOBAL_FAULTS, ids=[expected for _, expected in GLOBAL_FAULTS])
def test_global_faults(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert len(caught.value.faults) == 1, caught.value.faults
    assert caught.value.faults[0].startswith(f"s.yaml:{expected}")


# The sign § stands where the fault is to be pointed at.
STREAM_FAULTS = [
    (" {name: b, §sorce: a.mp4}", "streams[1].sorce: unknown key; did you mean 'source'?"),
    (" {name: b, §url: a.mp4}", "streams[1].url: unknown key; did you mean 'source'?"),
    (" {name: b, source: b.mp4, §confidence: 1}", "streams[1].confidence: unknown key here; it belongs in 'model'"),
    (" {name: b, source: b.mp4, §bogus: 1}", "streams[1].bogus: unknown key; expected username, password"),
    (" §{name: b}", "streams[1].source: this key is missing"),
    (" §{source: b.mp4}", "streams[1].name: this key is missing"),
    (" §b.mp4", "streams[1]: expected a mapping with the keys name, source, found text"),
    ("§", "streams[1]: expected a mapping with the keys name, source, found nothing"),
    (" {name: §front door, source: b.mp4}", "streams[1].name: a name is 1 to 64 of the characters A-Z a-z 0-9 _ -"),
    (
        " {name: §" + "b" * 65 + ", source: b.mp4}",
        "streams[1].name: a name is 1 to 64 of the characters",
    ),
    (" {name: §5, source: b.mp4}", "streams[1].name: expected text, found a number; put it in quotes"),
    (" {name: §no, source: b.mp4}", "streams[1].name: expected text, found a truth value"),
    (" {name: §A, source: b.mp4}", "streams[1].name: streams[0] in line 2 has this name already"),
    (
        " {name: b, source: §0}",
        "streams[1].source: expected text, found a number; a webcam is written v4l2:/dev/video0",
    ),
    (" {name: b, source: §[b.mp4]}", "streams[1].source: expected a URL or a path, found a list"),
    (" {name: b, source: §''}", "streams[1].source: a source is a URL or a path"),
    (
        " {name: b, source: §'concat:a|b'}",
        "streams[1].source: sources of this kind are not allowed; expected a path or one",
    ),
    (" {name: b, source: §'lavfi:testsrc'}", "streams[1].source: sources of this kind are not allowed"),
    (" {name: b, source: §'rtps://cam/x'}", "streams[1].source: sources of this kind are not allowed;"),
    (" {name: b, source: §'rtsp:///x'}", "streams[1].source: the URL names no host"),
    (
        " {name: b, source: §'rtsp://cam:99999/x'}",
        "streams[1].source: the port of the URL is not a number from 1 to 65535",
    ),
    (" {name: b, source: b.mp4, fps: §0}", "streams[1].fps: expected a number above 0, found 0"),
    (" {name: b, source: b.mp4, fps: §12:30}", "streams[1].fps: YAML reads this as a number in an unusual notation"),
    (" {name: b, source: b.mp4, loop: §1}", "streams[1].loop: expected true or false, found a number"),
    (" {name: b, source: b.mp4, loop: §'yes'}", "streams[1].loop: expected true or false, found text"),
    (
        " {name: b, source: b.mp4, pace: §realtme}",
        "streams[1].pace: expected asap or realtime; did you mean 'realtime'?",
    ),
    (" {name: b, source: b.mp4, region: §[0, 0, 5]}", "streams[1].region: the list is too short: it has 3"),
    (" {name: b, source: b.mp4, region: §[0, 0, 5, 5, 5]}", "streams[1].region: expected a list of at most 4, found 5"),
    (" {name: b, source: b.mp4, region: §[0, 0, 0, 5]}", "streams[1].region: expected x and y from 0"),
    (" {name: b, source: b.mp4, region: §[0.5, 0, 0.6, 1]}", "streams[1].region: these are fractions of the picture"),
    (" {name: b, source: b.mp4, region: [§a, 0, 1, 1]}", "streams[1].region[0]: expected a number, found text"),
    (" {name: b, source: b.mp4, username: §u}", "streams[1].username: a source of this kind takes no user name"),
    (
        " {name: b, source: b.mp4, latency_budget_ms: 30, playout_delay_ms: §40}",
        "streams[1].playout_delay_ms: results are held for 40 ms, so a latency_budget_ms of 30 cannot be kept",
    ),
    (
        " {name: b, source: b.mp4, playout_delay_ms: §0.5}",
        "streams[1].playout_delay_ms: expected auto, p50 to p99, or a number of milliseconds from 1 to 10000",
    ),
    (
        " {name: b, source: b.mp4, playout_delay_ms: §adaptive}",
        "streams[1].playout_delay_ms: expected auto, p50 to",
    ),
    (" {name: b, source: b.mp4, playout_delay_ms: §p100}", "streams[1].playout_delay_ms: expected auto, p50 to"),
    (" {name: b, source: rtsp://c/x, password: §hunter2}", "streams[1].password: a password needs a username"),
    (" {name: b, source: rtsp://c/x, username: u, password: §''}", "streams[1].password: the password is empty"),
    (
        " {name: b, source: rtsp://c/x, username: u, password: §12}",
        "streams[1].password: expected text, found a number; put",
    ),
    (
        " {name: b, source: rtsp://c/x, username: u, password: hunter2, password_env: §P}",
        "streams[1].password_env: 'password' is given as well; keep one of them",
    ),
    (
        " {name: b, source: rtsp://v:hunter2@c/x, username: §u}",
        "streams[1].username: the URL holds a user name as well; keep one of them",
    ),
    (
        " {name: b, source: rtsp://v:hunter2@c/x, password_env: §P}",
        "streams[1].password_env: the URL holds a password as well; keep one of them",
    ),
    (
        " {name: b, source: rtsp://c/x, username: u, password_env: §P}",
        "streams[1].password_env: the environment variable P that this key names is not set",
    ),
    (
        " {name: b, source: rtsp://c/x, username: u, password_file: §/nonexistent/p}",
        "streams[1].password_file: the file",
    ),
    (
        ' {name: b, source: §"rtsp://${HOST}/x"}',
        "streams[1].source: the environment variable HOST that is used here is not set",
    ),
    (' {name: b, source: §"rtsp://${HOST/x"}', "streams[1].source: expected ${VARIABLE}; a plain ${ is written $${"),
    (' {name: b, source: b.mp4, pace: §"${PACE}"}', "streams[1].pace: ${...} is read in"),
]


@pytest.mark.parametrize(("entry", "expected"), STREAM_FAULTS, ids=[expected for _, expected in STREAM_FAULTS])
def test_stream_faults_are_confined_to_their_stream(entry: str, expected: str) -> None:
    line = f"  -{entry}"
    text = f"streams:\n  - {{name: a, source: a.mp4}}\n{line.replace('§', '')}\n  - {{name: c, source: c.mp4}}\n"
    loaded = load(text)
    assert [good.name for good in loaded.config.streams] == ["a", "c"]
    (quarantined,) = loaded.quarantined
    assert quarantined.index == 1
    (fault,) = quarantined.faults
    place = f"s.yaml:3:{line.index('§') + 1}"
    assert fault.startswith(f"{place}: {expected}")
    assert fault.path[:2] == ("streams", 1)
    assert "hunter2" not in fault


def test_all_faults_at_once_in_file_order() -> None:
    found = faults("modle: 1\nbatch: {max_size: x}\nstreams:\n  - {name: a b, sorce: x}\n  - {name: b}\nsinks: 5\n")
    assert [fault.split(": ")[1] for fault in found] == [
        "modle",
        "batch.max_size",
        "streams[0].name",
        "streams[0].sorce",
        "streams[1].source",
        "sinks",
    ]


def test_a_fault_in_defaults_is_told_once() -> None:
    found = faults("defaults: {fps: 0}\nstreams: [{name: a, source: a.mp4}, {name: b, source: b.mp4}]")
    assert found == ["s.yaml:1:17: defaults.fps: expected a number above 0, found 0"]


# Fifty streams; line of entry i is i + 2.
FIFTY = [f"  - {{name: cam{index}, source: rtsp://10.0.0.{index}/s}}" for index in range(50)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {17: "  - {name: cam17, sorce: rtsp://10.0.0.17/s}"},
            ["s.yaml:19:19: streams[17].sorce: unknown key; did you mean"],
        ),
        (
            {17: "  - {name: CAM3, source: rtsp://10.0.0.17/s}"},
            ["s.yaml:19:12: streams[17].name: streams[3] in line 5 has this"],
        ),
        (
            {17: "  - {name: cam17, source: gopher://10.0.0.17/s}"},
            ["s.yaml:19:27: streams[17].source: sources of this kind are"],
        ),
        (
            {
                5: "  - {name: cam5, source: &a rtsp://10.0.0.5/s}",
                6: "  - {name: cam7, source: rtsp://10.0.0.6/s}",
                8: "  - {name: cam8, source: rtsp://10.0.0.8/s, fps: 1, fps: 2}",
            },
            [
                "s.yaml:7:26: streams[5].source: anchors (&) are not accepted",
                # The later one of two is faulty: cam7 itself, after its name was taken in line 8.
                "s.yaml:9:12: streams[7].name: streams[6] in line 8 has this name",
                "s.yaml:10:53: streams[8].fps: this key was already given in line 10",
            ],
        ),
    ],
)
def test_quarantine_among_fifty(changes: dict[int, str], expected: list[str]) -> None:
    lines = [changes.get(index, line) for index, line in enumerate(FIFTY)]
    loaded = load("streams:\n" + "\n".join(lines))
    assert len(loaded.config.streams) == 50 - len(expected)
    found = [fault for entry in loaded.quarantined for fault in entry.faults]
    assert len(found) == len(expected)
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start)


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("hwaccel: cdua", "cuda"), ("hwaccel: nvdec", "cuda"), ("hwaccel: VAAPI:/dev/dri/renderD128", "vaapi"),
        ("codecs: [hvec]", "hevc"), ("codecs: [h265]", "hevc"), ("codecs: [mjpg]", "mjpeg"),
        ("transport: tpc", "tcp"), ("transport: rtp", "udp"), ("isolation: proces", "process"),
        ("parser: libva", "libav"), ("skip: nokey", "nonkey"), ("pace: real_time", "realtime"),
        ("policy: latest", "freshest"), ("priority: urgent", "high"), ("corrupt: dorp", "drop"),
    ],
)  # fmt: skip
def test_a_misspelt_value_of_a_stream_is_told_the_one_that_was_meant(line: str, near: str) -> None:
    loaded = parse_config(f"streams: [{{name: a, source: 'rtsp://a/1', {line}}}]".encode())
    (fault,) = loaded.quarantined[0].faults
    assert fault.endswith(f"; did you mean '{near}'?")


@pytest.mark.parametrize(
    ("line", "near"),
    [("device: gpu", "cuda"), ("device: cuda1", "cuda"), ("precision: half", "fp16"), ("precision: float32", "fp32")],
)
def test_a_misspelt_value_of_the_model_likewise(line: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"model: {{{line}}}\nstreams: [{{name: a, source: a.mp4}}]".encode())
    assert str(caught.value).endswith(f"; did you mean '{near}'?")
