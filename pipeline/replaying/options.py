# SPDX-License-Identifier: Apache-2.0
"""What a replay can be asked for, and every way in which that can be wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from pipeline.config.config import Config
from pipeline.config.detection import ModelConfig
from pipeline.config.explain import explain
from pipeline.config.faults import path_text
from pipeline.config.streams import StreamSettings
from pipeline.config.wording import did_you_mean, kind_of, nearest, one_of
from pipeline.errors import ConfigError, UsageError

SAVED = ("jsonl", "csv", "mot", "coco", "video")
"""Kinds of files that a replay can write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What ``pipeline replay`` can be asked for; None leaves it to the configuration or a default.

    Attributes:
        sources: paths, folders, globs and finite URLs.
        config: a streams.yaml whose ``model``, ``batch`` and ``defaults`` apply; its streams and sinks do not.
        model: TorchScript or ``.pt2`` file, or ``builtin:people``.
        adapter: how its output is read, see ``model.adapter``.
        out: folder for results, or None to keep them in memory only (the Python interface).
        save: kinds of files to write: some of :data:`SAVED`.
        pace: as fast as possible, or at the time stamps' own pace.
        fps: thin to this rate.
        limit: stop each stream after this many decoded frames.
        parallel: files open at once.
        resume: skip streams that the report in ``out`` calls finished.
        confidence: least confidence of a detection, 0 to 1.
        iou: overlap (intersection over union) above which the weaker of two boxes goes, 0 to 1.
        classes: names or ids of the classes to keep.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        batch: frames per batch.
        workers: threads that run the model.
        hwaccel: what decodes: ``none``, ``auto``, ``cuda``, ...
        inline: everything in one thread.
        tuned: use what ``pipeline model tune`` found to be fastest, where it was asked.
    """

    sources: tuple[str, ...]
    config: Path | None = None
    model: str | None = None
    adapter: str | None = None
    out: Path | None = None
    save: tuple[str, ...] = ("jsonl",)
    pace: Literal["asap", "realtime"] = "asap"
    fps: float | None = None
    limit: int | None = None
    parallel: int | None = None
    resume: bool = False
    confidence: float | None = None
    iou: float | None = None
    classes: tuple[str | int, ...] | None = None
    device: str | None = None
    precision: str | None = None
    batch: int | None = None
    workers: int | None = None
    hwaccel: str | None = None
    inline: bool = False
    tuned: bool | None = None


def options_of(sources: tuple[str, ...], given: Mapping[str, Any]) -> ReplayOptions:
    """Options from keyword arguments; raises UsageError for a name that there is not."""
    names = [field.name for field in fields(ReplayOptions) if field.name != "sources"]
    unknown = [name for name in given if name not in names]
    if unknown:
        near = nearest(unknown[0], names)
        remedy = f"did you mean {near!r}?" if near else f"expected {one_of(names)}"
        raise UsageError(f"a replay has no option {unknown[0]!r}; {remedy}")
    options = dict(given)
    for name, value in given.items():
        if name in ("classes", "save") and isinstance(value, str | int):
            options[name] = (value,)
        elif name in ("config", "out") and value is not None:
            options[name] = Path(value)
        elif name == "model" and value is not None:
            options[name] = str(value)
    return ReplayOptions(sources=sources, **options)


def sections(options: ReplayOptions, config: Config) -> tuple[ModelConfig, StreamSettings]:
    """The configuration's model and defaults with what the options say otherwise; raises ConfigError."""
    model = {
        "path": options.model,
        "adapter": options.adapter,
        "device": options.device,
        "precision": options.precision,
        "tuned": options.tuned,
        "confidence": options.confidence,
        "iou": options.iou,
        "classes": None if options.classes is None else tuple(map(_class, options.classes)) or None,
    }
    settings = {"pace": options.pace, "fps": options.fps, "hwaccel": options.hwaccel, "loop": False}
    faults = [*_own_faults(options), *_faults(config.model, model), *_faults(config.defaults, settings)]
    if faults:
        raise ConfigError(faults)
    return _changed(config.model, model), _changed(config.defaults, settings)


SectionT = TypeVar("SectionT", ModelConfig, StreamSettings)


def _own_faults(options: ReplayOptions) -> Iterator[str]:
    """Faults in what no section of a configuration knows."""
    for name in ("limit", "parallel", "batch", "workers"):
        value = getattr(options, name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            found = value if isinstance(value, int | float) and not isinstance(value, bool) else kind_of(value)
            yield f"{name}: expected a whole number from 1, found {found}"
    for kind in options.save:
        if kind not in SAVED:
            yield f"save: expected {one_of(SAVED)}, found {kind!r}{did_you_mean(str(kind), SAVED)}"


def _faults(section: SectionT, values: Mapping[str, Any]) -> Iterator[str]:
    """What the values would be refused for in a file, named as the options are."""
    try:
        type(section).model_validate(_given(values))
    except ValidationError as error:
        for fault in explain(error, type(section)):
            first, *rest = fault.path
            yield f"{path_text(('model' if first == 'path' else first, *rest))}: {fault.message}"


def _changed(section: SectionT, values: Mapping[str, Any]) -> SectionT:
    given = _given(values)
    checked = type(section).model_validate(given)
    return section.model_copy(update={key: getattr(checked, key) for key in given})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _class(wanted: str | int) -> str | int:
    return int(wanted) if isinstance(wanted, str) and wanted.isdecimal() else wanted
