# SPDX-License-Identifier: Apache-2.0
"""The formats of exported models: how each is made, written with its metadata, and read back."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from pipeline.detectors.loading.export import silent_logs
from pipeline.detectors.loading.metadata import OWN_KEY
from pipeline.detectors.loading.operators import suppress_operator
from pipeline.detectors.torch_messages import one_line, quiet
from pipeline.errors import ModelError, UsageError
from pipeline.host.replacing import replacing
from pipeline.workshop.inspection.reading import opened

Format = Literal["torchscript", "pt2", "ptl"]
MOST_BATCH = 64
"""Largest batch that a ``.pt2`` is made for."""

_SUFFIXES: dict[str, Format] = {".pt2": "pt2", ".ptl": "ptl", ".pt": "torchscript", ".torchscript": "torchscript"}


def format_of(out: Path, wanted: str | None) -> Format:
    """The format that was asked for, else that of the suffix; raises UsageError where they contradict."""
    suffix = out.suffix.lower()
    meant = _SUFFIXES.get(suffix)
    if suffix in (".onnx", ".tflite", ".engine", ".safetensors", ".mlmodel"):
        raise UsageError(f"{out}: this is the name of another format; expected .pt, .torchscript, .pt2 or .ptl")
    if wanted is None:
        return meant or "torchscript"
    if meant not in (None, wanted):
        raise UsageError(f"{out}: this suffix means {meant}, but --format is {wanted}; change one of them")
    return wanted  # type: ignore[return-value]


def exported_program(module: nn.Module, example: torch.Tensor, dynamic: bool) -> torch.export.ExportedProgram:
    """``torch.export`` of a module, for any batch up to 64 or for that of the example; raises ModelError."""
    batch = torch.export.Dim("batch", min=1, max=MOST_BATCH)
    with quiet(), silent_logs(), torch.no_grad():
        try:
            program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},) if dynamic else None)
        except Exception as exc:
            raise ModelError(f"torch.export cannot express it: {one_line(exc)}") from exc
    program.example_inputs = None  # they would be stored with it: megabytes of random numbers
    return program


def write(made: Any, kind: Format, path: Path, metadata: Mapping[str, Any]) -> None:
    """Store a ScriptModule (torchscript, ptl) or an ExportedProgram (pt2) with its metadata; raises ModelError."""
    extra = {OWN_KEY: json.dumps(metadata, sort_keys=True)}
    buffer = io.BytesIO()  # given a path, torch would name the archive's folder after the temporary file
    with quiet(), silent_logs():
        try:
            if kind == "pt2":
                torch.export.save(made, buffer, extra_files=extra)
            elif kind == "ptl":
                buffer.write(made._save_to_buffer_for_lite_interpreter(_extra_files=extra))
            else:
                torch.jit.save(made, buffer, _extra_files=extra)
        except Exception as exc:
            raise ModelError(f"it cannot be stored as {kind}: {one_line(exc)}") from exc
    try:
        path.write_bytes(buffer.getvalue())
    except OSError as exc:
        raise ModelError(f"{path.parent}: cannot be written: {exc.strerror or exc}") from exc


def read(path: Path, kind: Format) -> tuple[Callable[[Any], Any], str]:
    """Load what was written; returns the module, and the metadata's text; raises ModelError."""
    extra: dict[str, Any] = {OWN_KEY: ""}
    with quiet(), silent_logs():
        suppress_operator()
        try:
            if kind == "pt2":
                module: Any = torch.export.load(path, extra_files=extra).module()
            elif kind == "ptl":
                from torch.jit.mobile import _load_for_lite_interpreter

                module = _load_for_lite_interpreter(str(path))  # type: ignore[no-untyped-call]
                with opened(path) as members:  # torch gives side files back on phones only
                    extra[OWN_KEY] = members.text(f"extra/{OWN_KEY}")
            else:
                module = torch.jit.load(str(path), _extra_files=extra)  # type: ignore[no-untyped-call]
        except Exception as exc:
            raise ModelError(f"what was written as {kind} cannot be read back: {one_line(exc)}") from exc
    text = extra[OWN_KEY]
    return module, text.decode() if isinstance(text, bytes) else str(text)


def optimised_for_mobile(module: torch.jit.ScriptModule) -> tuple[torch.jit.ScriptModule, str]:
    """The module with XNNPACK's operators where this build of torch has them, and a line that says what was done."""
    from torch.utils.mobile_optimizer import optimize_for_mobile

    with quiet():
        try:
            return optimize_for_mobile(module, preserved_methods=[]), "optimised for mobile (XNNPACK)"
        except (RuntimeError, AttributeError) as exc:
            lacking = "XNNPACK" in str(exc)
            reason = "this build of torch has no XNNPACK" if lacking else one_line(exc)
            return module, f"not optimised for mobile: {reason}; it runs everywhere, but slower than it could"


@contextlib.contextmanager
def beside(out: Path) -> Iterator[Path]:
    """A temporary file next to ``out`` that takes its place when the block ends well, and is gone when it does not.

    Raises:
        UsageError: there is no such folder, or it cannot be written to.
    """
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; the name of a file was expected")
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(replacing(out))
        except OSError as exc:
            raise UsageError(f"{out}: cannot be written: {exc.strerror or exc}") from exc
        yield path
        try:
            stack.close()
        except OSError as exc:
            raise ModelError(f"{out}: cannot be written: {exc.strerror or exc}") from exc
