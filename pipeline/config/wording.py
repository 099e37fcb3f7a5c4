# SPDX-License-Identifier: Apache-2.0
"""The words of messages: kinds of value, and the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# What other programs, and people, call it; the first one that is valid at the place is meant.
_SYNONYMS = {
    "address": "source listen", "batch_size": "max_size", "bind": "listen", "camera": "source", "cameras": "streams",
    "cert": "cert_file", "certificate": "cert_file", "conf": "confidence", "dest": "path", "destination": "path",
    "dtype": "precision", "file": "path source", "filename": "path source", "folder": "path", "framerate": "fps",
    "host": "listen", "id": "name", "image_size": "input", "imgsz": "input", "input": "source", "input_size": "input",
    "inputs": "streams", "iou_threshold": "iou", "key": "key_file", "labels": "names classes", "login": "username",
    "max_batch": "max_size", "max_batch_size": "max_size", "max_det": "max_detections", "max_latency_ms": "max_wait_ms",
    "nms": "iou", "nms_threshold": "iou", "output": "sinks path", "outputs": "sinks", "pass": "password",
    "passwd": "password", "path": "source", "port": "listen", "priority": "weight", "protocol": "transport",
    "pwd": "password", "rate": "fps", "roi": "region", "rtsp": "source", "score": "confidence", "sink": "sinks",
    "size": "input max_size", "sources": "streams", "src": "source", "stream": "streams", "threads": "workers",
    "threshold": "confidence", "timeout": "read_timeout_s", "timeout_ms": "max_wait_ms", "timeout_s": "read_timeout_s",
    "token": "token_file", "uri": "source", "url": "source", "user": "username", "weights": "path",
}  # fmt: skip

# The same for values that are one of a few words.
_OTHER_WORDS = {
    "all": "every_frame", "avc": "h264", "bfloat16": "bf16", "block": "every_frame", "critical": "high",
    "double": "fp32", "drop_oldest": "freshest", "every": "every_frame", "float": "fp32", "float16": "fp16",
    "float32": "fp32", "full": "fp32", "gpu": "cuda", "h265": "hevc", "half": "fp16", "interleaved": "tcp",
    "jpeg": "mjpeg", "key_frames": "nonkey", "keyframes": "nonkey", "latest": "freshest",
    "mpeg2": "mpeg2video", "newest": "freshest", "nvcuvid": "cuda", "nvdec": "cuda", "nvidia": "cuda", "off": "none",
    "raw": "rawvideo", "resize": "stretch", "rtp": "udp", "subprocess": "process", "urgent": "high", "x264": "h264",
    "x265": "hevc", "yuyv": "rawvideo",
}  # fmt: skip


def kind_of(value: Any) -> str:
    """What a YAML value is, in words that do not repeat it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a truth value (YAML reads yes, no, on, off, true and false as one)"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a mapping" if isinstance(value, dict) else "a list"


def synonym(found: str, valid: Iterable[str]) -> str | None:
    """What is called so elsewhere, where it is valid here."""
    names = set(valid)
    called = _folded(found)
    meant = (*_SYNONYMS.get(called, "").split(), _OTHER_WORDS.get(called, ""))
    return next((name for name in meant if name in names), None)


def nearest(found: str, valid: Iterable[str]) -> str | None:
    """The valid name that was probably meant, or None."""
    import difflib  # 10 ms that only a mistake is worth

    names = list(valid)
    return synonym(found, names) or next(iter(difflib.get_close_matches(_folded(found), names, n=1, cutoff=0.6)), None)


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")


def did_you_mean(found: str, valid: Iterable[str]) -> str:
    """``; did you mean 'source'?``, or nothing."""
    near = nearest(found, valid)
    return f"; did you mean '{near}'?" if near else ""


def one_of(names: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
