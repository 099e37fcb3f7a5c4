# SPDX-License-Identifier: Apache-2.0
"""From the configuration's words to a detector: load, recognise, probe, name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipeline.detectors.adapter import Adapter, Limits
from pipeline.detectors.engine import TorchScriptDetector
from pipeline.detectors.intra_op import intra_op_threads
from pipeline.detectors.loading.builtin import PREFIX, load_builtin
from pipeline.detectors.loading.load import LoadedModel, load_model
from pipeline.detectors.loading.recipe import DEFAULT, Recipe
from pipeline.detectors.loading.taken import ForAnotherDevice
from pipeline.detectors.names import choose_classes, choose_labels
from pipeline.detectors.network import Network
from pipeline.detectors.placement import choose_device, choose_precision, gpu_files, lacks_bf16
from pipeline.detectors.plugins import identity
from pipeline.detectors.preprocessing import Preprocessing
from pipeline.detectors.recognise import Wanted, fit_adapter, known_before_running, preprocessing_of, settled
from pipeline.detectors.torch_messages import quiet
from pipeline.detectors.trial import verdict as verdicts
from pipeline.detectors.trial.examine import examine
from pipeline.detectors.trial.probe import COMMON_SIDES, FirstRun, first_run
from pipeline.detectors.trial.verdict import Verdict
from pipeline.errors import ConfigError, ModelLoadError
from pipeline.frame import InputSpec
from pipeline.timing import now_ns

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks of a detector; see :func:`pipeline.detectors.build_detector`."""

    adapter: str | None
    adapter_options: Mapping[str, Any]
    input_spec: Mapping[str, Any]
    input_size: tuple[int, int] | None
    trim: bool
    confidence: float
    iou: float
    classes: Sequence[str | int] | None
    names: Mapping[int, str] | Sequence[str] | None
    device: str
    precision: str
    max_batch: int
    threads: int
    sha256: str | None
    max_detections: int
    probe: bool
    recipe: Recipe = DEFAULT
    whole_batches: bool = False
    verdict: Verdict | None = None


def assemble(model: str | Path, request: Request) -> TorchScriptDetector:
    """Build a detector; raises ModelLoadError or ConfigError with one line per fault."""
    _check(request)
    device = choose_device(request.device)
    if request.device == "auto" and device.type == "cpu" and (idle := gpu_files()):
        _log.warning(
            "there is a GPU (%s) that torch cannot use; the CPU is taken; 'pipeline doctor' says why", ", ".join(idle)
        )
    if request.device != "auto" or device.type == "cpu":
        return _assembled(model, request, device)
    try:
        return _assembled(model, request, device)
    except ModelLoadError as refused:
        try:
            on_cpu = _assembled(model, replace(request, device="cpu"), torch.device("cpu"))
        except ModelLoadError:
            if isinstance(refused, ForAnotherDevice):  # it is for CPUs: what the CPU says of it counts
                raise
            raise refused from None
    note = f"{model}: it does not run on {device}; the CPU is taken"
    _log.warning("%s (device: %s tells why)", note, device)
    on_cpu.notes.append(note)
    return on_cpu


def _assembled(model: str | Path, request: Request, device: torch.device) -> TorchScriptDetector:
    begun = now_ns()
    load = load_builtin if str(model).startswith(PREFIX) else load_model
    loaded = load(str(model), request.sha256, device, request.recipe)
    if loaded.quantized and device.type == "cuda":
        raise ForAnotherDevice(f"{loaded.path}: an INT8 file runs on a CPU only; set device to cpu or auto")
    if loaded.format == "aotinductor" and request.precision not in ("auto", "fp32"):
        asked = f"precision: {request.precision} was asked for"
        raise ModelLoadError(
            f"{loaded.path}: {asked}, but an AOTInductor package computes as it was compiled; use auto"
        )
    precision = choose_precision(request.precision, device, loaded.quantized)
    ready = now_ns()
    wanted = Wanted(request.adapter, request.adapter_options, request.input_spec, len(request.names or ()))
    known = known_before_running(loaded, wanted)
    rules = preprocessing_of(loaded, known, wanted)

    def connect(spec: InputSpec, capacity: int) -> Network:
        """By the rules as they are when it is called."""
        lists, sizes = loaded.signature.takes_list, loaded.signature.takes_sizes
        encoding = rules.encoding(as_list=lists, sizes=sizes)
        return Network(loaded.module, encoding, spec, device, precision, capacity)

    with quiet(), intra_op_threads(request.threads):
        run = first_run(loaded, _inputs(loaded, request, rules), loaded.metadata.fixed_batch, connect)
        family = settled(loaded, wanted, known, run.outputs, run.batch, run.spec)
        if family is not known:
            rules, before = preprocessing_of(loaded, family, wanted), rules
            if rules != before:  # what it was shown is not what such a network wants to see
                again = rules.spec(run.spec.height, run.spec.width)
                run = first_run(loaded, [again], run.batch, connect)
        adapter = fit_adapter(loaded, family, wanted, run.outputs, run.batch, run.spec)
        verdict = _verdict(loaded, request, run, adapter, connect, (str(device), precision, rules))
    slow = precision == "bf16" and lacks_bf16(device)
    notes = _remarks(loaded, request, run, adapter, verdict, slow)
    labels = _labels(loaded, adapter, request)
    return TorchScriptDetector(
        connect(replace(run.spec, trim=verdict.trim), max(verdict.largest, verdict.fixed or 1)),
        adapter,
        Limits(request.confidence, request.iou, choose_classes(request.classes, labels), request.max_detections),
        labels,
        path=loaded.path,
        digest=loaded.digest,
        file_format=loaded.format,
        verdict=verdict,
        threads=request.threads,
        whole=request.whole_batches or request.recipe.way != "as_is",
        notes=notes,
        startup_s={"load": (ready - begun) / 1e9, "probe": (now_ns() - ready) / 1e9},
    )


def _verdict(
    loaded: LoadedModel,
    request: Request,
    run: FirstRun,
    adapter: Adapter,
    connect: Callable[[InputSpec, int], Network],
    circumstances: tuple[object, ...],
) -> Verdict:
    """As given, else from the cache, else by trying the model; what matters for the answer makes the key."""
    if request.verdict is not None:
        return request.verdict
    facts = (
        *circumstances,
        run.spec,
        run.batch,
        identity(adapter, request.adapter_options),
        request.max_batch,
        request.trim,
        request.threads,
        request.recipe,
    )
    if not request.probe:
        return Verdict(1, loaded.metadata.fixed_batch)
    path = verdicts.entry(loaded.digest, facts)
    known = verdicts.recall(path) if loaded.digest else None
    if known is not None:
        return known
    verdict = examine(loaded, run, adapter, request.max_batch, connect, trim=request.trim, threads=request.threads)
    if loaded.digest:
        verdicts.keep(path, verdict)
    return verdict


def _check(request: Request) -> None:
    faults = [
        f"{key}: {value} is out of range; 0 to 1 was expected"
        for key, value in (("confidence", request.confidence), ("iou", request.iou))
        if not 0.0 <= value <= 1.0
    ]
    if request.max_batch < 1 or request.threads < 1:
        faults.append(f"max_batch {request.max_batch} and threads {request.threads}: both must be at least 1")
    if request.input_size is not None and min(request.input_size) < 1:
        faults.append(f"input: {list(request.input_size)} was given; [height, width] in pixels was expected")
    if faults:
        raise ConfigError(faults)


def _inputs(loaded: LoadedModel, request: Request, rules: Preprocessing) -> list[InputSpec]:
    """Inputs to try: the configured one, else the file's own, else the usual ones."""
    size = request.input_size or loaded.metadata.size or loaded.signature.size
    if size is None:
        sides = COMMON_SIDES[:1] if loaded.signature.takes_list else COMMON_SIDES
        return [rules.spec(side, side) for side in sides]
    height, width = size
    stride = rules.stride
    if height % stride or width % stride:
        near = [max(stride, round(side / stride) * stride) for side in size]
        raise ModelLoadError(
            f"{loaded.path}: input {[height, width]} does not fit its stride; multiples of {stride} are needed, "
            f"such as {near}"
        )
    return [rules.spec(height, width)]


def _remarks(
    loaded: LoadedModel, request: Request, run: FirstRun, adapter: Adapter, verdict: Verdict, slow: bool
) -> list[str]:
    """What the user should know about how the model is used; logged, too."""
    height, width = run.spec.height, run.spec.width
    remarks = [f"{loaded.path}: {remark}" for remark in verdict.remarks(request.max_batch)]
    if not (request.input_size or loaded.metadata.size or loaded.signature.size):
        remarks.append(f"{loaded.path}: it does not say its input size; {width}x{height} works and is used")
    if getattr(adapter, "normalised", False):
        remarks.append(f"{loaded.path}: its boxes are normalised (0..1); they are scaled to the input")
    if getattr(adapter, "untold", False):
        remarks.append(
            f"{loaded.path}: it finds nothing in the picture that it is tried with, so its boxes are taken to be in "
            "pixels; if they come in 0..1, set model.adapter_options: {normalised: true}"
        )
    if slow:
        remarks.append("precision: bf16 is several times as slow as fp32 on this CPU, which has no instructions for it")
    for remark in remarks:
        _log.warning("%s", remark)
    return remarks


def _labels(loaded: LoadedModel, adapter: Adapter, request: Request) -> dict[int, str]:
    count = getattr(adapter, "classes", None) or loaded.signature.classes
    return choose_labels(loaded.metadata.names, request.names, count, getattr(adapter, "first_class", 0))
