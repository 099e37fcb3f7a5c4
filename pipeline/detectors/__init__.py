# SPDX-License-Identifier: Apache-2.0
"""Detectors of several families, as TorchScript and ``.pt2`` files, and the built-in one, behind one interface.

- **Made**: ``assemble`` goes from the configuration to a detector: ``loading`` reads the file, ``recognise`` finds the
  family, by the ``shapes`` of outputs too (``adapter`` is what a family has to know, ``adapters`` has a file for each,
  ``plugins`` finds those of others), ``trial`` shows it pictures, ``names`` names its classes, ``placement`` chooses
  device and precision, ``tuned`` recalls what was measured on this machine.
- **At work**: ``engine`` takes batches, ``network`` runs the program, ``feeding`` and ``preprocessing`` fill its input,
  ``suppress`` removes overlaps; ``capacity`` and ``intra_op`` share memory and cores out, ``pinned`` and
  ``device_work`` are for GPUs, ``torch_messages`` puts torch's errors into one line.
- **Beside**: ``people`` is the built-in model, ``agreement`` compares what two detectors find.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.detectors.engine import TorchScriptDetector
    from pipeline.detectors.loading.recipe import Recipe
    from pipeline.detectors.trial.verdict import Verdict

__all__ = ["build_detector"]


def build_detector(
    model: str | Path,
    *,
    adapter: str | None = None,
    adapter_options: Mapping[str, Any] | None = None,
    input_spec: Mapping[str, Any] | None = None,
    input_size: tuple[int, int] | None = None,
    trim: bool = True,
    confidence: float = 0.4,
    iou: float = 0.5,
    classes: Sequence[str | int] | None = None,
    names: Mapping[int, str] | Sequence[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    max_batch: int = 8,
    threads: int = 1,
    sha256: str | None = None,
    max_detections: int = 300,
    probe: bool = True,
    recipe: Recipe | None = None,
    whole_batches: bool = False,
    verdict: Verdict | None = None,
) -> TorchScriptDetector:
    """Load a model and make a detector of it. Imports torch; loading a file runs code of its author.

    Args:
        model: path of a TorchScript or ``.pt2`` file, or ``builtin:people``.
        adapter: the family of detectors that it belongs to, when its file and outputs do not tell, or tell wrong.
            Also the name of an entry point of the group ``pipeline.adapters``, or ``package.module:factory``.
        adapter_options: of the adapter, such as ``box`` of ``heatmap``.
        input_spec: what of its input differs from what its file says or its family usually wants: ``colour``,
            ``scale``, ``mean``, ``std``, ``fit``, ``pad_value``, ``stride``, ``dtype``, ``layout``; see
            :class:`pipeline.detectors.preprocessing.Preprocessing`.
        input_size: network input (height, width) in pixels; None leaves it to the file.
        trim: leave off padding that a picture does not need, where the model takes inputs of other shapes: a 16:9
            picture in a square input is nearly half padding.
        confidence: lowest confidence of a detection, 0..1.
        iou: overlap above which the less confident of two boxes of a class is removed, 0..1.
        classes: names or ids of the classes to keep; None keeps all.
        names: class names where the file has none: by id, or a list that starts at the first class.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        max_batch: largest batch wanted; the detector may offer less.
        threads: intra-op threads that :meth:`~pipeline.protocols.Detector.warm` gives to each calling thread.
        sha256: expected digest of the file, or None.
        max_detections: the most confident ones that are kept per picture.
        probe: try it on pictures first (:mod:`pipeline.detectors.trial`); without, it gets single pictures only.
        recipe: how the program is made ready; None is the default one. Its precision is that of ``precision``.
        whole_batches: a batch is one call of the network, because that was measured to be fast; else batches that would
            push each other out of a CPU's cache are run in parts (:mod:`pipeline.detectors.capacity`).
        verdict: how the model may be used, where that is known already; None tries it.

    Raises:
        ModelLoadError: not a detector that can run here; the message says what was found and what to do.
        ConfigError: a value out of range, or a class that the model does not have.
    """
    from pipeline.detectors.assemble import Request, assemble  # torch is not imported before somebody needs it
    from pipeline.detectors.loading.recipe import DEFAULT

    return assemble(
        model,
        Request(
            adapter=adapter,
            adapter_options=adapter_options or {},
            input_spec=input_spec or {},
            input_size=input_size,
            trim=trim,
            confidence=confidence,
            iou=iou,
            classes=classes,
            names=names,
            device=device,
            precision=precision,
            max_batch=max_batch,
            threads=threads,
            sha256=sha256,
            max_detections=max_detections,
            probe=probe,
            recipe=recipe or DEFAULT,
            whole_batches=whole_batches,
            verdict=verdict,
        ),
    )
