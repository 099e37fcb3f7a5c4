# SPDX-License-Identifier: Apache-2.0
"""Export: a module becomes a file that was read back and found to do the same before it is kept."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipeline.detectors import build_detector
from pipeline.detectors.adapters import ADAPTERS
from pipeline.detectors.torch_messages import quiet
from pipeline.errors import ConfigError, InferenceError, ModelError, ModelLoadError, UsageError
from pipeline.figures import count
from pipeline.workshop.exports.compiling import Method, takes_list
from pipeline.workshop.exports.equality import Account, Disagreement, compare
from pipeline.workshop.exports.origin import Origin, resolve
from pipeline.workshop.exports.programs import Made, exported, scripted, traced
from pipeline.workshop.exports.saving import Format, beside, format_of, optimised_for_mobile, read, write
from pipeline.workshop.exports.showing import Show, shown_list, shown_tensor


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is to be exported, and how.

    Attributes:
        what: a detector of torchvision by name, or ``package.module:factory``.
        out: the file to write.
        weights: ``DEFAULT``, ``none``, the path of a state_dict, or None for the usual: DEFAULT for torchvision.
        method: ``auto``, ``trace`` or ``script``.
        format: ``torchscript``, ``pt2``, ``ptl``, or None for what the suffix of ``out`` means.
        input_size: (height, width) in pixels, or None to find one.
        batch: the only batch size that the module takes, or None for any.
        stride: both sides of an input must be multiples of it.
        num_classes: of a torchvision detector whose weights are not DEFAULT.
        adapter: family of detectors, where its outputs do not tell.
        names: class names from the first class on; None takes those that come with the weights.
        frames: a video for the comparison; None takes a rendered pattern.
    """

    what: str
    out: Path
    weights: str | None = None
    method: Method = "auto"
    format: str | None = None
    input_size: tuple[int, int] | None = None
    batch: int | None = None
    stride: int = 1
    num_classes: int | None = None
    adapter: str | None = None
    names: Sequence[str] | None = None
    frames: str | None = None


def export_model(request: ExportRequest, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Export a model; ``request.out`` is replaced in one step, and only if the new file does what the original does.

    Args:
        request: what and how.
        say: is told what is under way.

    Returns:
        a JSON object; see docs/detectors.md.

    Raises:
        UsageError, ModelLoadError: the request cannot be met as it is.
        ModelError: the module cannot be exported, or the file does something else than the module.
    """
    kind = format_of(request.out, request.format)
    _check(request)
    with beside(request.out) as path:
        say(f"making {request.what}")
        origin = resolve(request.what, request.weights, request.num_classes)
        with quiet():
            made, show = _made(request, origin, kind, say)
            remarks = [*origin.remarks, *made.remarks]
            if kind == "ptl":
                made, remark = _mobile(made, show)
                remarks.append(remark)
            metadata = _metadata(request, origin, made, show, kind)
            found = _recognised(request, made, metadata, kind, path, remarks)
            say("comparing the file with the original")
            made, account = _kept_or_scripted(request, origin, made, show, kind, path, metadata)
            remarks.extend(remark for remark in made.remarks if remark not in remarks)
        if not account.values:
            remarks.append("nothing was found on any of the pictures, so only empty lists were compared")
        data = path.read_bytes()
    return {
        "path": str(request.out),
        "format": kind,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "origin": origin.title,
        "weights": origin.weights,
        "method": made.method,
        "why": made.why,
        "input": list(show.size),
        "batch": {"tried": list(made.batches), "fixed": made.fixed_batch},
        "fixed_size": made.fixed_size,
        "agreement": {
            "pictures": account.pictures,
            "frames": show.source,
            "values": account.values,
            "detections": account.detections,
            "largest_difference": account.largest,
        },
        "metadata": metadata,
        "detector": found,
        "notes": remarks,
    }


def _check(request: ExportRequest) -> None:
    """What can be refused before the work begins."""
    if request.adapter is not None and request.adapter not in ADAPTERS:
        near = difflib.get_close_matches(request.adapter, ADAPTERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(ADAPTERS)}"
        raise UsageError(f"--adapter {request.adapter}: there is no such adapter; {hint}")
    if request.input_size is not None and any(side % request.stride for side in request.input_size):
        height, width = request.input_size
        raise UsageError(f"--input {height},{width}: multiples of the stride {request.stride} were expected")


def _made(request: ExportRequest, origin: Origin, kind: Format, say: Callable[[str], None]) -> tuple[Made, Show]:
    """The program, found to do what the original does for every batch size that it is said to take."""
    say("compiling")
    if takes_list(origin.module):
        if kind == "pt2":
            raise ModelError(
                f"{origin.title}: its forward takes a list of pictures, which a .pt2 cannot take; export TorchScript"
            )
        program, size = scripted(origin, request.method, request.input_size)
        return program, shown_list(origin, size, request.frames)
    show = shown_tensor(origin, request.input_size, request.batch, request.stride, request.frames)
    if kind == "pt2":
        return exported(origin, show), show
    return traced(origin, request.method, show), show


def _mobile(made: Made, show: Show) -> tuple[Made, str]:
    """Optimised where that works and changes nothing."""
    module, remark = optimised_for_mobile(made.module)
    if module is not made.module:
        try:
            compare(module, show.of(made.batches))
        except Disagreement as exc:
            return made, f"not optimised for mobile, because it would do something else: {exc}"
    return made.having(module), remark


def _metadata(request: ExportRequest, origin: Origin, made: Made, show: Show, kind: Format) -> dict[str, Any]:
    """What goes into the file; :mod:`pipeline.detectors.loading.metadata` reads the upper part of it."""
    first = 1 if show.as_list else 0
    names = origin.names if request.names is None else dict(enumerate(request.names, first))
    facts: dict[str, Any] = {"input": list(show.size), "stride": request.stride}
    adapter = request.adapter or ("torchvision" if show.as_list else None)
    if adapter is not None:
        facts["adapter"] = adapter
    if names:
        facts["names"] = {str(class_id): label for class_id, label in names.items()}
    if made.fixed_batch is not None:
        facts["fixed_batch"] = made.fixed_batch
    if made.fixed_size:
        facts["fixed_size"] = True
    if made.largest_batch is not None:
        facts["max_batch"] = made.largest_batch
    facts["exported"] = {
        "origin": origin.title,
        "weights": origin.weights if origin.weights in ("DEFAULT", "none", "own") else Path(origin.weights).name,
        "method": made.method,
        "format": kind,
        "torch": torch.__version__,
    }
    return facts


def _recognised(
    request: ExportRequest, made: Made, metadata: dict[str, Any], kind: Format, path: Path, remarks: list[str]
) -> dict[str, Any] | None:
    """Write the file and ask the pipeline what it is; the adapter's name goes into the metadata."""
    if kind == "ptl":
        return None
    write(made.module, kind, path, metadata)
    try:
        detector = build_detector(path, device="cpu", max_batch=made.fixed_batch or 2)
    except (ModelLoadError, ConfigError, InferenceError) as exc:
        reason = str(exc).replace(str(path), str(request.out))
        if request.adapter is not None and kind == "torchscript":
            raise ModelError(f"--adapter {request.adapter} does not fit: {reason}") from exc
        remarks.append(f"the pipeline does not run this file as it is: {reason}")
        return None
    info = detector.model_info()
    remarks.extend(note.replace(str(path), str(request.out)) for note in detector.notes)
    detector.close()
    metadata["adapter"] = str(info["adapter"])
    return {key: info[key] for key in ("adapter", "input", "precision")}


def _kept_or_scripted(
    request: ExportRequest, origin: Origin, made: Made, show: Show, kind: Format, path: Path, metadata: dict[str, Any]
) -> tuple[Made, Account]:
    """The lite interpreter treats some traced numbers otherwise than TorchScript does: then the module is scripted."""
    try:
        return made, _kept(made, show, kind, path, metadata, origin.title)
    except ModelError as exc:
        if kind != "ptl" or request.method != "auto" or made.method != "trace":
            raise
        try:
            again = traced(origin, "script", show)
            metadata["exported"]["method"] = again.method
            why = f"traced, the lite interpreter does something else with it: {exc}"
            return replace(again, why=why), _kept(again, show, kind, path, metadata, origin.title)
        except ModelError:
            raise exc from None


def _kept(made: Made, show: Show, kind: Format, path: Path, metadata: dict[str, Any], title: str) -> Account:
    """Write, read back, compare; raises ModelError where anything differs."""
    write(made.module, kind, path, metadata)
    module, text = read(path, kind)
    if not text or json.loads(text) != metadata:
        raise ModelError(f"{title}: its metadata did not survive in {kind}; nothing was kept")
    if kind == "torchscript" and getattr(module, "training", False):
        raise ModelError(f"{title}: the file is in training mode; nothing was kept")
    try:
        return compare(module, show.of(made.batches, all_sizes=not made.fixed_size))
    except Disagreement as exc:
        raise ModelError(
            f"{title}: the exported file does something else than the original: {exc}; nothing was kept"
        ) from exc


_WEIGHTS = {"own": "its own weights", "none": "random weights", "DEFAULT": "torchvision's weights"}
_DONE = {"trace": "traced", "script": "scripted", "export": "exported"}


def in_words(done: dict[str, Any]) -> list[str]:
    """The result as lines for a terminal."""
    batch, agreement = done["batch"], done["agreement"]
    size = f"{done['input'][1]}x{done['input'][0]}{' only' if done['fixed_size'] else ''}"
    tried = ", ".join(map(str, batch["tried"]))
    fixed = f"batches of {batch['fixed']} only" if batch["fixed"] else f"batches of any size (tried: {tried})"
    differ = agreement["largest_difference"]
    equal = f"differs by {differ:.2g} of a channel's largest value at most" if differ else "identical"
    weights = _WEIGHTS.get(done["weights"], f"weights {done['weights']}")
    rows = f", {count(agreement['detections'], 'detection')}" if agreement["detections"] else ""
    lines = [
        f"{done['path']}: {done['origin']}, {weights}, {done['format']}, {done['bytes']:,} bytes",
        f"  {_DONE.get(done['method'], done['method'])}: {done['why']}",
        f"  input {size}, {fixed}",
        f"  read back and compared with the original on {agreement['pictures']} pictures (noise, and "
        f"{agreement['frames']}): {agreement['values']:,} values{rows}, {equal}",
        f"  sha256 {done['sha256']}",
    ]
    if done["detector"] is not None:
        lines.insert(3, f"  runs here as {done['detector']['adapter']}: pipeline replay VIDEO --model {done['path']}")
    return [*lines, *(f"note: {note}" for note in done["notes"])]
