# SPDX-License-Identifier: Apache-2.0
"""Programs that do what their original does: for any batch where that is possible, else for one, and that is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.detectors.loading.signature import read_signature
from pipeline.errors import ModelError
from pipeline.workshop.exports.compiling import Compiled, Method, compiled
from pipeline.workshop.exports.equality import Disagreement, compare
from pipeline.workshop.exports.origin import Origin
from pipeline.workshop.exports.saving import MOST_BATCH, exported_program
from pipeline.workshop.exports.showing import BATCHES, Show

_LIST_SIDE = 320


@dataclass(frozen=True, slots=True)
class Made:
    """A program.

    Attributes:
        module: a ScriptModule, or an ExportedProgram.
        method: ``trace``, ``script`` or ``export``.
        why: the reason for it, one line.
        batches: batch sizes for which it does what the original does.
        fixed_batch: the only one that it takes, or None.
        fixed_size: it takes no other input size.
        largest_batch: the largest one that it takes, where there is a limit.
        remarks: for the user, one line each.
    """

    module: Any
    method: str
    why: str
    batches: tuple[int, ...]
    fixed_batch: int | None = None
    fixed_size: bool = False
    largest_batch: int | None = None
    remarks: tuple[str, ...] = ()

    def having(self, module: Any) -> Made:
        """The same with another module."""
        return replace(self, module=module)


def scripted(origin: Origin, method: Method, size: tuple[int, int] | None) -> tuple[Made, tuple[int, int]]:
    """A module that takes a list of pictures, and the size that it resizes them to inside; raises ModelError."""
    try:
        done = compiled(origin.module, method, [])
        inner = read_signature(done.module, origin.title).size
    except ModelError as exc:
        raise _named(origin, exc) from exc
    return Made(done.module, done.method, done.why, BATCHES), size or inner or (_LIST_SIDE, _LIST_SIDE)


def traced(origin: Origin, method: Method, show: Show) -> Made:
    """TorchScript of a module that takes a batch; raises ModelError where nothing does what the original does."""
    try:
        done = compiled(origin.module, method, show.example(_typical(show.batches)))
        reason = _difference(done.module, show, show.batches)
        if reason and method == "auto" and done.method == "trace":
            again = _scripted_instead(origin, show, reason)
            done, reason = (again, "") if again is not None else (done, reason)
        if not reason:
            return _measured(done, show, show.batches)
        if done.method == "script" or len(show.batches) == 1:
            raise ModelError(f"the {done.method}d module does something else than the original: {reason}")
        return _for_one_batch(origin, show, reason)
    except ModelError as exc:
        raise _named(origin, exc) from exc


def exported(origin: Origin, show: Show) -> Made:
    """``torch.export`` of a module that takes a batch; raises ModelError."""
    remark = ""
    if len(show.batches) > 1:
        try:
            program = exported_program(origin.module, show.example(_typical(show.batches)), dynamic=True)
            reason = _difference(program.module(), show, show.batches)
        except ModelError as exc:
            reason = str(exc)
        if not reason:
            why = f"any batch up to {MOST_BATCH}"
            return Made(program, "export", why, show.batches, fixed_size=True, largest_batch=MOST_BATCH)
        remark = f"its batch size could not be left open: {reason}"
    only = show.batches[0]
    try:
        program = exported_program(origin.module, show.example(only), dynamic=False)
        reason = _difference(program.module(), show, (only,))
    except ModelError as exc:
        raise _named(origin, exc) from exc
    if reason:
        raise ModelError(f"{origin.title}: the exported program does something else than the original: {reason}")
    remarks = (remark,) if remark else ()
    return Made(program, "export", f"batches of {only}", (only,), only, fixed_size=True, remarks=remarks)


def _scripted_instead(origin: Origin, show: Show, reason: str) -> Compiled | None:
    try:
        again = compiled(origin.module, "script", show.example(1))
    except ModelError:
        return None
    if _difference(again.module, show, show.batches):
        return None
    return replace(again, why=f"traced, it does something else: {reason}")


def _for_one_batch(origin: Origin, show: Show, reason: str) -> Made:
    """Traced anew with the smallest batch, and only ever used with it."""
    only = show.batches[0]
    done = compiled(origin.module, "trace", show.example(only))
    failed = _difference(done.module, show, (only,))
    if failed:
        raise ModelError(f"the traced module does something else than the original: {failed}")
    remark = f"traced for batches of {only} only: {reason}"
    return _measured(replace(done, remarks=(*done.remarks, remark)), show, (only,))


def _measured(done: Compiled, show: Show, batches: tuple[int, ...]) -> Made:
    """Find out whether it takes other sizes of input too."""
    fixed_batch = batches[0] if len(batches) == 1 else None
    remarks = list(done.remarks)
    fixed_size = show.other_size is None
    if show.other_size is not None:
        try:
            compare(done.module, [show.at_other_size(batches[0])])
        except Disagreement as exc:
            fixed_size = True
            remarks.append(f"it takes {show.size[1]}x{show.size[0]} only: {exc}")
    return Made(done.module, done.method, done.why, batches, fixed_batch, fixed_size, remarks=tuple(remarks))


def _difference(module: Any, show: Show, batches: Sequence[int]) -> str:
    """What a program does otherwise than the original, or nothing."""
    try:
        compare(module, show.of(batches))
    except Disagreement as exc:
        return str(exc)
    return ""


def _typical(batches: Sequence[int]) -> int:
    """Two pictures where possible: with one, torch mistakes sizes of 1 for constants."""
    return 2 if 2 in batches else batches[0]


def _named(origin: Origin, error: ModelError) -> ModelError:
    text = str(error)
    return error if text.startswith(origin.title) else type(error)(f"{origin.title}: {text}")
