# SPDX-License-Identifier: Apache-2.0
"""Try a model on pictures before the streams start: does it treat every picture of every batch alike?

A TorchScript file may have its batch size baked in: then further pictures come back empty, in silence. It may keep
something between calls, or drop out at random. None of this raises, so it is looked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.detectors.adapter import Adapter
from pipeline.detectors.loading.load import LoadedModel
from pipeline.detectors.network import Network
from pipeline.detectors.trial.probe import FirstRun
from pipeline.detectors.trial.scenes import probe_picture
from pipeline.detectors.trial.trimming import BUILT_IN_STRIDE, TRIM_RUNS, can_be_trimmed, trim_of
from pipeline.detectors.trial.verdict import Verdict, refuse_not_finite
from pipeline.errors import InferenceError
from pipeline.frame import InputSpec, Uint8Array
from pipeline.timing import SYSTEM, Clock

BUDGET_NS = 10_000_000_000
"""No further check begins that could end after this, but for batches of two: without them none can be trusted."""

_ROUNDS = 3  # that two threads run at the same time

Answer = list[torch.Tensor]
"""What the network returned for one picture: every tensor, on the CPU."""


@dataclass(frozen=True, slots=True)
class _Alone:
    """A picture's answer when it is shown alone.

    Attributes:
        answer: what the network returned.
        exact: in a batch it must be the same; else it must be there.
    """

    answer: Answer
    exact: bool

    @property
    def found(self) -> bool:
        """It says something."""
        return any(bool(tensor.any()) for tensor in self.answer)


@dataclass(slots=True)
class _Budget:
    """Time, and what was done with it."""

    clock: Clock
    begun_ns: int
    checked: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    not_told: list[str] = field(default_factory=list)
    ms: dict[int, float] = field(default_factory=dict)

    def left_ms(self) -> float:
        """Milliseconds that are not spent yet."""
        return (BUDGET_NS - (self.clock.now_ns() - self.begun_ns)) / 1e6

    def allows(self, check: str, pictures: int) -> bool:
        """Whether showing so many more pictures fits; notes the answer."""
        fits = pictures * max(self.ms.values(), default=0.0) < self.left_ms()
        (self.checked if fits else self.left_out).append(check)
        return fits


def examine(
    model: LoadedModel,
    run: FirstRun,
    adapter: Adapter,
    wanted: int,
    connect: Callable[[InputSpec, int], Network],
    *,
    trim: bool = True,
    threads: int = 1,
    clock: Clock = SYSTEM,
) -> Verdict:
    """Find out how a model may be used.

    Args:
        model: which one. A built-in one is known already and not tried.
        run: its first run.
        adapter: how its outputs are read.
        wanted: the largest batch that the user wants.
        connect: makes a network for an input and a largest batch.
        trim: whether trimmed inputs are wanted where it takes them.
        threads: intra-op threads of each thread that runs it.
        clock: where time comes from.

    Raises:
        ModelLoadError: every output is NaN or infinite.
    """
    fixed = run.batch if run.batch > 1 else model.metadata.fixed_batch
    stride = 0
    if not model.digest:
        return Verdict(min(wanted, fixed or wanted), fixed, trim=BUILT_IN_STRIDE if trim else 0)
    budget = _Budget(clock, clock.now_ns())
    network = connect(run.spec, max(run.batch, wanted, fixed or 1))
    size = fixed or run.batch
    picture = probe_picture(run.spec, 0)

    first = _timed(budget, network, [picture], size)[0]
    finite = _finite_share(first)
    if finite == 0.0:
        raise refuse_not_finite(model.path, network.precision)
    again = _timed(budget, network, [picture], size)[0]  # the second call is the one that counts
    budget.checked += ["finite outputs", "the same picture again"]
    repeatable = _alike(first, again, network)
    most = min(wanted, fixed or model.metadata.largest_batch or wanted)
    largest, why = most, f"it was exported for batches of {'' if fixed else 'up to '}{most}" if most < wanted else ""
    # Lists of boxes differ by the one whose score is at the threshold, and what is random differs anyhow.
    alone = _Alone(again, exact=repeatable and not model.signature.takes_list)
    fault = _fault_of_few(budget, network, fixed, alone) if most > 1 else ""
    if repeatable:
        exclusive = _keeps_state(budget, network, size, threads)
    else:
        exclusive = False
        budget.not_told.append("whether two threads may run it at once")
    if trim and can_be_trimmed(model, run.spec) and budget.allows("trimmed inputs", TRIM_RUNS * size):
        stride = trim_of(run, adapter, connect)
    if fault:
        largest, why = 1, fault
    elif fixed is None and most > 2:
        largest, fault = _largest_batch(budget, network, most, alone)
        why = fault or why
    return Verdict(
        largest=largest,
        fixed=fixed,
        why=why,
        trim=stride,
        repeatable=repeatable,
        exclusive=exclusive,
        finite=finite,
        ms_per_picture={str(count): round(ms, 3) for count, ms in budget.ms.items()},
        checked=tuple(budget.checked),
        left_out=tuple(budget.left_out),
        not_told=tuple(dict.fromkeys(budget.not_told)),
    )


def _fault_of_few(budget: _Budget, network: Network, fixed: int | None, alone: _Alone) -> str:
    """What is wrong with batches of two, or of the only size that the model takes; empty when nothing is.

    However little time is left: a baked-in batch, which loses pictures in silence, shows with two already.
    """
    if not alone.found:
        if fixed is None and alone.exact:
            return "it finds nothing in the pictures that it is tried with, so whether it takes batches cannot be told"
        budget.not_told.append(
            "whether every picture of a batch is answered: it finds nothing in those it is tried with"
        )
    budget.checked.append(f"batches of {fixed or 2}")
    return _fault(budget, network, fixed or 2, alone)


def _largest_batch(budget: _Budget, network: Network, wanted: int, alone: _Alone) -> tuple[int, str]:
    """The largest of ``wanted`` or its halves, down to 2, in which the last picture is answered as it is alone.

    Batches of two are known to be well. Where time is short, they stand for all that are not tried.
    """
    why, size = "", wanted
    while size > 2:
        if budget.allows(f"batches of {size}", 3 * size):
            fault = _fault(budget, network, size, alone)
            if not fault:
                break
            why = why or fault
        size //= 2
    return (max(size, 2), why) if why else (wanted, "")


def _fault(budget: _Budget, network: Network, size: int, alone: _Alone) -> str:
    """What is wrong with a batch of this size; empty when nothing is."""
    pictures = [probe_picture(network.spec, number) for number in range(size)][::-1]
    try:
        together = _timed(budget, network, pictures, size)
        if budget.left_ms() > size * budget.ms[size]:
            _timed(budget, network, pictures, size)  # the first run of a size is no measure
    except InferenceError as exc:
        return f"batches of {size} fail ({exc})"
    if len(together) != size:
        return f"{size} pictures gave the outputs of {len(together)}"
    if _alike(alone.answer, together[-1], network):
        return ""
    if alone.exact:
        return "a picture's outputs change with its neighbours in the batch"
    if alone.found and not any(bool(tensor.any()) for tensor in together[-1]):
        return "the last picture of a batch comes back empty"
    budget.not_told.append("whether a picture's outputs change with its neighbours in the batch")
    return ""


def _keeps_state(budget: _Budget, network: Network, size: int, threads: int) -> bool:
    """Whether two threads that run it at the same time get other answers than one after the other."""
    if not budget.allows("two threads at once", (2 * _ROUNDS + 2) * size):
        return False
    pictures = [probe_picture(network.spec, number) for number in (0, 1)]
    expected = [_answers(network, [picture], size)[0] for picture in pictures]
    together = threading.Barrier(2)
    differs: list[bool] = []

    def work(number: int) -> None:
        torch.set_num_threads(threads)
        for _ in range(_ROUNDS):
            together.wait(60.0)
            try:
                answer = _answers(network, [pictures[number]], size)[0]
            except InferenceError:
                differs.append(True)
            else:
                differs.append(not _alike(expected[number], answer, network))

    workers = [threading.Thread(target=work, args=(number,), name=f"probe:{number}", daemon=True) for number in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return any(differs)


def _timed(budget: _Budget, network: Network, pictures: Sequence[Uint8Array], size: int) -> list[Answer]:
    begun_ns = budget.clock.now_ns()
    found = _answers(network, pictures, size)
    ms = (budget.clock.now_ns() - begun_ns) / 1e6 / size
    budget.ms[size] = min(ms, budget.ms.get(size, ms))
    return found


def _answers(network: Network, pictures: Sequence[Uint8Array], size: int) -> list[Answer]:
    """The answers to the given pictures; fewer where the outputs are of fewer pictures."""
    outputs, work = network.run(pictures, size)
    if work is not None:
        work.wait()
    with network.scope():
        return [list(_of_picture(outputs, number, size)) for number in range(min(len(pictures), _count(outputs)))]


def _count(outputs: Any) -> int:
    """Of how many pictures these are the outputs."""
    if isinstance(outputs, torch.Tensor):
        return len(outputs) if outputs.dim() else 0
    if isinstance(outputs, dict):
        return min((_count(value) for value in outputs.values()), default=0)
    if isinstance(outputs, tuple) and len(outputs) == 2 and outputs[0] == {}:  # (losses, detections)
        return _count(outputs[1])
    if isinstance(outputs, list) and outputs and isinstance(outputs[0], dict):
        return len(outputs)
    return _count(outputs[0]) if isinstance(outputs, list | tuple) and outputs else 0


def _of_picture(outputs: Any, number: int, size: int) -> Iterator[torch.Tensor]:
    """Every tensor of the outputs that has a row per picture: that row, copied to the CPU."""
    if isinstance(outputs, torch.Tensor):
        if outputs.dim() and len(outputs) == size:
            yield outputs[number].float().cpu().clone()
    elif isinstance(outputs, dict):
        for value in outputs.values():
            yield from _of_picture(value, number, size)
    elif isinstance(outputs, list) and outputs and isinstance(outputs[0], dict):
        yield from (value.float().cpu().clone() for value in outputs[number].values())
    elif isinstance(outputs, list | tuple):
        for value in outputs:
            yield from _of_picture(value, number, size)


def _finite_share(answer: Answer) -> float:
    values = sum(tensor.numel() for tensor in answer)
    return sum(int(torch.isfinite(tensor).sum()) for tensor in answer) / values if values else 1.0


def _alike(one: Answer, other: Answer, network: Network) -> bool:
    """Whether nearly all values of every channel agree."""
    if [tensor.shape for tensor in one] != [tensor.shape for tensor in other]:
        return False
    return all(_close(*pair, exact=network.precision == "fp32") for pair in zip(one, other, strict=True))


def _close(one: torch.Tensor, other: torch.Tensor, *, exact: bool) -> bool:
    """98 % of each channel's values agree to 1 % of its largest (10 % in reduced precision); NaN equals NaN.

    By channel, because boxes in pixels dwarf scores: the shorter axis of a matrix is that of the channels.
    """
    if not one.numel():
        return True
    if one.dim() == 2 and one.shape[0] > one.shape[1]:
        one, other = one.T, other.T
    one, other = (tensor.reshape(len(tensor) if tensor.dim() == 2 else 1, -1) for tensor in (one, other))
    share, least = (0.01, 1e-3) if exact else (0.1, 1e-2)
    tolerance = torch.nan_to_num(one, 0.0, 0.0, 0.0).abs().amax(1, keepdim=True).mul(share).clamp(min=least)
    # In ranked outputs near-ties may change places: then the same values must be there in another order.
    ranked = (one.sort(1).values, other.sort(1).values)
    return any(_agree(*pair, tolerance) for pair in ((one, other), ranked))


def _agree(one: torch.Tensor, other: torch.Tensor, tolerance: torch.Tensor) -> bool:
    agree = ((one - other).abs() <= tolerance) | (one == other) | (one.isnan() & other.isnan())
    return bool((agree.float().mean(1) >= 0.98).all())
