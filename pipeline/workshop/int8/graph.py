# SPDX-License-Identifier: Apache-2.0
"""INT8 out of a TorchScript program alone: freeze it, choose its convolutions, watch ranges, convert.

Torch's own passes (``torch.ao.quantization.quantize_jit``) do the conversion. They are given a flat, frozen graph,
because they refuse traced programs whose methods take modules as arguments (Ultralytics' do), and three things are
put right in it: a convolution that is to stay in float is written as ``aten::convolution``, which those passes do not
know; the observer between a convolution and its ReLU goes behind the ReLU, so that no range is spent on values that
are cut off and both become one operator; weights get one scale per output channel.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Final, Literal

import torch

from pipeline.detectors.torch_messages import hush_int8, one_line, quiet
from pipeline.errors import ModelError

Ranges = Literal["minmax", "histogram"]
"""How activations get their range: from the extremes seen, or from the part of them that loses least (slower)."""

_CONVOLUTIONS: Final = ("aten::_convolution", "aten::conv2d")
_OBJECTS: Final = (
    "it makes objects of its own classes, as scripted torchvision detectors do, and torch's passes take none. Remedy: "
    "convert the backbone before it is scripted (pipeline.workshop.int8.modules.from_module), or run it in float"
)
_RELU: Final = ("aten::relu", "aten::relu_")


def flatten(data: bytes) -> torch.jit.ScriptModule:
    """The program in evaluation mode as one graph: calls inlined, batch normalisation folded, weights as constants.

    Raises:
        ModelError: torch cannot load or freeze it.
    """
    try:
        with quiet():
            module = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()  # type: ignore[no-untyped-call]
            return _frozen(module)
    except (RuntimeError, AttributeError) as exc:
        raise ModelError(f"the program cannot be frozen, which INT8 needs: {one_line(exc)}") from exc


def convolution_count(module: torch.jit.ScriptModule) -> int:
    """How many convolutions a flat program has."""
    return len(_convolutions(module.graph))


def head_layers(module: torch.jit.ScriptModule) -> list[int]:
    """Numbers of the convolutions after which no other one comes: the last layers of the heads."""
    nodes = _convolutions(module.graph)
    names = {_name(node) for node in nodes}
    return [number for number, node in enumerate(nodes) if not names & set(_downstream(node))]


def layers_without_kernel(module: torch.jit.ScriptModule) -> list[int]:
    """Numbers of the grouped convolutions for which INT8 takes hundreds of times as long as float, measured.

    On x86, oneDNN does those of up to 100 groups where the CPU has VNNI; the others go to FBGEMM, whose fast kernels
    need a multiple of 8 groups (ShuffleNet has 116: 53 ms against 0.12 ms in float for 40 x 40 pixels).
    """
    if torch.backends.quantized.engine not in ("x86", "fbgemm"):
        return []
    least = 100 if has_fast_int8() and torch.backends.quantized.engine == "x86" else 1
    groups = [_groups(node) for node in _convolutions(module.graph)]
    return [number for number, count in enumerate(groups) if count > least and count % 8]


def prepare_program(
    data: bytes, *, keep_float: frozenset[int] = frozenset(), ranges: Ranges = "minmax"
) -> torch.jit.ScriptModule:
    """A program with observers, ready to be calibrated; takes seconds. Arguments as of :func:`quantize_program`.

    Raises:
        ModelError: torch's passes cannot handle this program.
    """
    hush_int8()
    module = flatten(data)
    kept = keep_float.union(layers_without_kernel(module))
    try:
        with quiet():
            for number, node in enumerate(_convolutions(module.graph)):
                if number in kept:
                    _disguise(module.graph, node)
            prepared: torch.jit.ScriptModule = _passes().prepare_jit(module, {"": _settings(ranges)})
            _observe_behind_relu(prepared.graph)
    except (RuntimeError, ValueError) as exc:
        reason = _OBJECTS if "getModuleAccessPath" in str(exc) or "Object as arg" in str(exc) else one_line(exc)
        raise ModelError(f"torch cannot prepare this program for INT8: {reason}") from exc
    return prepared


def quantize_program(
    data: bytes,
    calibrate: Callable[[torch.nn.Module], object],
    *,
    keep_float: frozenset[int] = frozenset(),
    ranges: Ranges = "minmax",
) -> torch.jit.ScriptModule:
    """Convert a program to INT8.

    Args:
        data: a TorchScript file.
        calibrate: runs a module over typical inputs.
        keep_float: numbers of convolutions, in order of execution, that are not converted; those without a fast kernel
            (:func:`layers_without_kernel`) are not converted either.
        ranges: of activations.

    Raises:
        ModelError: torch's passes cannot handle this program.
        InferenceError: as ``calibrate`` raises it.
    """
    prepared = prepare_program(data, keep_float=keep_float, ranges=ranges)
    with quiet():
        calibrate(prepared)
    try:
        with quiet():
            converted = _passes().convert_jit(prepared)
            result: torch.jit.ScriptModule = _frozen(converted.eval())
    except (RuntimeError, ValueError) as exc:
        raise ModelError(f"torch cannot convert this program to INT8: {one_line(exc)}") from exc
    return result


def has_fast_int8() -> bool:
    """Whether this CPU multiplies whole bytes; without that, activations get 7 bits so that sums cannot saturate."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")) or found.get("architecture") in (
        "aarch64",
        "arm64",
    )


def quantized_operators(module: torch.jit.ScriptModule) -> int:
    """How many operators of a program compute in INT8."""
    return sum(node.kind().startswith("quantized::") for node in _nodes(module.inlined_graph))


def _passes() -> Any:
    return import_module("torch.ao.quantization.quantize_jit")  # the package hides it behind a function of its name


def _frozen(module: Any) -> torch.jit.ScriptModule:
    frozen: torch.jit.ScriptModule = torch.jit.freeze(module)
    return frozen


def _settings(ranges: Ranges) -> Any:
    from torch.ao.quantization import HistogramObserver, MinMaxObserver, QConfig, default_per_channel_weight_observer

    observer: Any = MinMaxObserver if ranges == "minmax" else HistogramObserver
    activation = observer.with_args(reduce_range=not has_fast_int8())
    return QConfig(activation, default_per_channel_weight_observer)  # type: ignore[no-untyped-call]


def _nodes(block: Any) -> Iterator[Any]:
    """All nodes of a graph, those of branches and loops included, in order."""
    for node in block.nodes():
        yield node
        for below in node.blocks():
            yield from _nodes(below)


def _convolutions(graph: Any) -> list[Any]:
    return [node for node in _nodes(graph) if node.kind() in _CONVOLUTIONS]


def _groups(node: Any) -> int:
    """Groups of a convolution; 1 where they are not a constant."""
    value = node.inputsAt(8 if node.kind() == "aten::_convolution" else 6).toIValue()
    return value if isinstance(value, int) else 1


def _name(node: Any) -> str:
    return str(next(iter(node.outputs())).debugName())


def _downstream(node: Any) -> Iterator[str]:
    """Names of everything that is computed from a node's result."""
    seen: set[str] = set()
    waiting = [use.user for output in node.outputs() for use in output.uses()]
    while waiting:
        user = waiting.pop()
        if not user.outputsSize():  # the end of a branch, or of the program
            continue
        name = _name(user)
        if name in seen:
            continue
        seen.add(name)
        yield name
        waiting += [use.user for output in user.outputs() for use in output.uses()]


def _disguise(graph: Any, node: Any) -> None:
    """Write a convolution as the operator that does the same and is not on the list of the quantisation passes."""
    inputs = list(node.inputs())
    with graph.insert_point_guard(node):
        if node.kind() == "aten::conv2d":
            transposed, padding = graph.insertConstant(False), graph.insertConstant([0, 0])
            arguments = [*inputs[:6], transposed, padding, inputs[6]]
        else:
            arguments = inputs[:9]
        plain = graph.create("aten::convolution", arguments, 1)
        plain.insertBefore(node)
    plain.output().setType(node.output().type())
    node.output().replaceAllUsesWith(plain.output())
    node.destroy()


def _observe_behind_relu(graph: Any) -> None:
    for observer in [node for node in _nodes(graph) if node.kind() == "prim::CallMethod"]:
        watched = list(observer.inputs())[1]
        users = [use.user for use in observer.output().uses()]
        if watched.node().kind() not in _CONVOLUTIONS or len(users) != 1 or users[0].kind() not in _RELU:
            continue
        (relu,) = users
        relu.replaceInputWith(observer.output(), watched)
        observer.moveAfter(relu)
        relu.output().replaceAllUsesWith(observer.output())
        observer.replaceInputWith(watched, relu.output())
