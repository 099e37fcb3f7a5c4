# SPDX-License-Identifier: Apache-2.0
"""INT8 detectors out of a TorchScript file and the user's own frames."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from pipeline.detectors.agreement import agreement
from pipeline.detectors.engine import TorchScriptDetector
from pipeline.detectors.intra_op import intra_op_threads
from pipeline.detectors.loading.builtin import PREFIX
from pipeline.detectors.loading.load import read_model
from pipeline.detectors.loading.operators import suppress_operator
from pipeline.detectors.torch_messages import quiet
from pipeline.errors import InferenceError, ModelError, ModelLoadError, SinkError
from pipeline.figures import count, percent
from pipeline.frame import Capture, Detections
from pipeline.host.replacing import replacing
from pipeline.workshop.compare import Limits, compare, open_detector
from pipeline.workshop.frames import find
from pipeline.workshop.int8.float_layers import Attempt, best, search
from pipeline.workshop.int8.graph import (
    Ranges,
    convolution_count,
    flatten,
    has_fast_int8,
    head_layers,
    layers_without_kernel,
    prepare_program,
    quantize_program,
    quantized_operators,
)
from pipeline.workshop.int8.result import MATCH_AT, Quantized
from pipeline.workshop.swapping import running

NOTE: Final = "quantize.json"
"""Side file of a quantised model: what was done to it."""

_FEW: Final = 10


def quantize_file(
    path: str | Path,
    captures: Sequence[Capture],
    out: Path,
    *,
    wanted: float = 0.95,
    force: bool = False,
    limits: Limits | None = None,
    given: Mapping[str, Any] | None = None,
    quick: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Quantized:
    """Convert a detector to INT8 and keep it if it finds the same.

    Every other frame calibrates, the others judge. Side files of the model (metadata) are carried over.

    Args:
        path: a float TorchScript detector.
        captures: frames like those that it is to see.
        out: where the result goes; what was there is replaced only if the result is kept.
        wanted: least share of boxes matched at IoU 0.75.
        force: keep it in any case.
        limits: what counts as a detection.
        given: what the configuration says of the model; see :func:`pipeline.workshop.compare.open_detector`.
        quick: try one way only: the first layer and the last ones of the heads in float.
        tell: progress, a line at a time.

    Raises:
        ModelLoadError: not a detector.
        ModelError: it is quantised already, or torch cannot convert it (:func:`check_convertible` says so in seconds);
            or it finds nothing in the frames, so that nothing can be judged.
        SinkError: the result cannot be written.
    """
    limits = limits or Limits()
    data = _convertible(path, None if given is None else given.get("sha256"))
    same = {"sha256": hashlib.sha256(data).hexdigest()}  # what is converted is what is compared, whatever is there then
    detector = open_detector(path, limits, "cpu", given={**(given or {}), **same})
    calibration, judged = captures[::2], captures[1::2] or captures
    with intra_op_threads(1):
        truth = find(detector, judged)
    boxes = sum(map(len, truth))
    if not boxes and not force:
        raise ModelError(
            f"{path}: it finds nothing in {len(judged)} frames at confidence {limits.confidence:g}, so nothing can be "
            "compared; give a video with something to find, or a lower --conf"
        )
    flat = flatten(data)
    layers = convolution_count(flat)

    def attempt(keep_float: frozenset[int], ranges: Ranges) -> Attempt:
        try:
            module = _convert(data, detector, calibration, keep_float, ranges)
            with running(detector, module):
                share = agreement(truth, find(detector, judged)).matched[MATCH_AT]
        except (ModelError, InferenceError) as error:
            tell(f"{_kept(keep_float)}, {ranges}: {error}")
            return Attempt(keep_float, ranges, 0.0, str(error))
        tell(f"{_kept(keep_float)}, {ranges}: {percent(share, 1)} of the boxes are the same")
        return Attempt(keep_float, ranges, share)

    if quick:
        attempts = [attempt(frozenset(head_layers(flat)) | {0}, "minmax")]
    else:
        attempts = search(attempt, layers, head_layers(flat), wanted)
    chosen = best(attempts)
    if chosen.failure:
        raise ModelError(f"{path}: {attempts[0].failure}")
    module = _convert(data, detector, calibration, chosen.keep_float, chosen.ranges)
    note = {"source_sha256": detector.model_info()["sha256"], "attempt": chosen.as_dict(), "wanted": wanted}
    kept = False
    try:
        with contextlib.suppress(_NotKept), replacing(out) as partial:
            _save(module, partial, _side_files(data) | {NOTE: json.dumps(note).encode()})
            found = compare(detector, _reopened(partial, out, limits, given), judged)
            kept = force or found.agreement.matched[MATCH_AT] >= wanted
            if not kept:
                raise _NotKept
    except OSError as error:
        raise SinkError(f"{out} cannot be written: {error.strerror or error}") from error
    remarks = _remarks(boxes, found.speedup)
    return Quantized(
        out,
        kept,
        wanted,
        len(calibration),
        len(judged),
        layers,
        quantized_operators(module),
        tuple(attempts),
        chosen,
        frozenset(layers_without_kernel(flat)),
        found,
        remarks,
    )


def check_convertible(path: str | Path, sha256: str | None = None) -> None:
    """Prepare the conversion as far as it goes without frames, which takes seconds. The file's program is loaded.

    Args:
        path: the file.
        sha256: the only digest that it may have, or None.

    Raises:
        ModelLoadError: no such file, or no model.
        ModelError: it cannot be converted; the message says why.
    """
    data = _convertible(path, sha256)
    with quiet():
        suppress_operator()  # a program may contain torchvision's operators: they must be registered first
    flat = flatten(data)
    if not convolution_count(flat):
        raise ModelError(f"{path}: its program has no convolution that INT8 could speed up")
    reasons = []
    for keep_float in (frozenset[int](), frozenset(head_layers(flat)) | {0}):
        try:
            prepare_program(data, keep_float=keep_float)
        except ModelError as error:
            reasons.append(error)
        else:
            return
    raise ModelError(f"{path}: {reasons[0]}") from reasons[0]


def _convert(
    data: bytes,
    detector: TorchScriptDetector,
    captures: Sequence[Capture],
    keep_float: frozenset[int],
    ranges: Ranges,
) -> torch.jit.ScriptModule:
    """Calibrated with what the detector feeds its network, whatever its encoding is."""

    def calibrate(prepared: torch.nn.Module) -> list[Detections]:
        with running(detector, prepared):
            return find(detector, captures)

    return quantize_program(data, calibrate, keep_float=keep_float, ranges=ranges)


def _convertible(path: str | Path, sha256: str | None) -> bytes:
    """The file's bytes, where they are of a kind that can be converted; raises ModelError."""
    if str(path).startswith(PREFIX):
        raise ModelLoadError(f"{path}: a TorchScript file was expected; a built-in model cannot be quantised")
    data, archive = read_model(path, sha256)
    if archive.format != "torchscript":
        raise ModelError(f"{path}: this is a .pt2 file ({archive.format}); only TorchScript can be converted to INT8")
    if archive.quantized:
        raise ModelError(f"{path}: this model is quantised already; give the float model that it was made from")
    return data


class _NotKept(Exception):
    """The file that was written does not take its place."""


def _reopened(partial: Path, out: Path, limits: Limits, given: Mapping[str, Any] | None) -> TorchScriptDetector:
    """What was written, as a detector; a refusal names the file that was asked for."""
    try:
        return open_detector(partial, limits, "cpu", given={**(given or {}), "sha256": None})
    except ModelLoadError as error:
        raise ModelError(str(error).replace(str(partial), f"what would be {out}")) from error


def _side_files(data: bytes) -> dict[str, bytes]:
    """What travels with the program, byte for byte."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        inner = {name: name.partition("/")[2] for name in archive.namelist()}
        return {
            below.removeprefix("extra/"): archive.read(name)
            for name, below in inner.items()
            if below.startswith("extra/") and below != "extra/"
        }


def _save(module: torch.jit.ScriptModule, path: Path, side_files: dict[str, bytes]) -> None:
    stored = io.BytesIO()
    with quiet():
        torch.jit.save(module, stored, _extra_files=side_files)
    path.write_bytes(stored.getvalue())


def _remarks(boxes: int, speedup: float) -> tuple[str, ...]:
    remarks = []
    if boxes < _FEW:
        remarks.append(f"only {boxes} boxes were compared; more frames, or a lower --conf, would say more")
    if speedup < 1.0:
        remarks.append("it is not faster than the float model on this machine; there is no reason to use it here")
    if not has_fast_int8():
        remarks.append("this CPU has no instructions for INT8 (VNNI): activations have 7 bits, and little time is won")
    return tuple(remarks)


def _kept(keep_float: frozenset[int]) -> str:
    return f"{count(len(keep_float), 'layer')} in float" if keep_float else "everything in INT8"
