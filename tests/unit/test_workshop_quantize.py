# SPDX-License-Identifier: Apache-2.0
"""INT8 conversion of networks as they come, layers that stay in float, and the search for those layers."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from pipeline.detectors.torch_messages import quiet
from pipeline.errors import ModelError
from pipeline.workshop.int8 import float_layers
from pipeline.workshop.int8.float_layers import Attempt, best, search
from pipeline.workshop.int8.graph import (
    Ranges,
    convolution_count,
    flatten,
    head_layers,
    layers_without_kernel,
    quantize_program,
    quantized_operators,
)
from pipeline.workshop.int8.modules import from_module
from tests.learned import fitted, scene


def pictures(count: int, first: int = 500) -> torch.Tensor:
    drawn = np.stack([scene(seed)[0] for seed in range(first, first + count)])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255.0


def traced(kind: str) -> bytes:
    stored = io.BytesIO()
    with quiet():
        torch.jit.save(torch.jit.trace(fitted(kind), torch.rand(1, 3, 128, 128)), stored)
    return stored.getvalue()


def scripted(kind: str) -> bytes:
    stored = io.BytesIO()
    with quiet():
        torch.jit.save(torch.jit.script(fitted(kind)), stored)
    return stored.getvalue()


def calibrate(module: torch.nn.Module) -> None:
    with torch.no_grad():
        module(pictures(4))


def kinds(module: torch.jit.ScriptModule) -> set[str]:
    return {node.kind() for node in module.inlined_graph.nodes()}


@pytest.mark.parametrize("program", [traced, scripted])
@pytest.mark.parametrize("kind", ["resnet", "mobilenet", "csp"])
def test_networks_keep_their_outputs_nearly(kind: str, program: object) -> None:
    assert callable(program)
    made = quantize_program(program(kind), calibrate)
    given = pictures(3, first=900)
    with torch.inference_mode():
        expected, found = fitted(kind)(given), made(given)
    assert found.shape == expected.shape
    scores = (found[:, 4:] - expected[:, 4:]).abs()
    assert float(scores.mean()) < 0.02
    assert float(scores.max()) > 0.0  # it does compute otherwise
    assert "quantized::conv2d" in kinds(made) or "quantized::conv2d_relu" in kinds(made)


def test_a_convolution_and_its_relu_become_one_operator() -> None:
    made = quantize_program(traced("resnet"), calibrate)
    assert "quantized::conv2d_relu" in kinds(made)
    assert not kinds(made) & {"aten::relu", "aten::relu_"}


def test_layers_stay_in_float() -> None:
    data = traced("resnet")
    flat = flatten(data)
    count = convolution_count(flat)
    assert count == 11
    assert head_layers(flat) == [10]
    everything = quantize_program(data, calibrate, keep_float=frozenset(range(count)))
    assert not any(kind.startswith("quantized::conv") for kind in kinds(everything))
    given = pictures(1, first=900)
    with torch.inference_mode():
        torch.testing.assert_close(everything(given), fitted("resnet")(given), atol=1e-3, rtol=1e-3)
    heads = quantize_program(data, calibrate, keep_float=frozenset([10]))
    assert "aten::convolution" in kinds(heads)
    assert quantized_operators(heads) < quantized_operators(quantize_program(data, calibrate))


class Depthwise(torch.nn.Module):
    """Depthwise convolutions of 116 channels, as ShuffleNet has them, and of 120."""

    def __init__(self) -> None:
        super().__init__()
        layers = [torch.nn.Conv2d(3, 116, 1), torch.nn.Conv2d(116, 116, 3, groups=116), torch.nn.Conv2d(116, 120, 1)]
        self.body = torch.nn.Sequential(*layers, torch.nn.Conv2d(120, 120, 3, groups=120), torch.nn.Conv2d(120, 8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.body(x)
        return found


@pytest.mark.skipif("x86" not in torch.backends.quantized.supported_engines, reason="not x86")
def test_depthwise_layers_without_a_fast_kernel_stay_in_float() -> None:
    made = from_module(Depthwise(), [pictures(1)], float_heads=False)
    kept = [node for node in made.inlined_graph.nodes() if node.kind() == "aten::convolution"]
    assert len(kept) == 1
    stored = io.BytesIO()
    with quiet():
        torch.jit.save(torch.jit.script(Depthwise()), stored)
    assert layers_without_kernel(flatten(stored.getvalue())) == [1]


def test_from_a_module_at_export_with_float_heads() -> None:
    module = fitted("mobilenet")
    made = from_module(module, [pictures(2), pictures(2, 700)])
    given = pictures(2, 900)
    with torch.inference_mode():
        expected, found = module(given), made(given)
    torch.testing.assert_close(found[:, 4:], expected[:, 4:], atol=0.25, rtol=0.0)
    assert "aten::convolution" in kinds(made)
    with pytest.raises(ModelError, match="at least one batch"):
        from_module(module, [])


def test_what_cannot_be_traced_is_said() -> None:
    class Wrong(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> str:
            return "no tensor"

    with pytest.raises(ModelError, match="cannot be traced"):
        from_module(Wrong(), [pictures(1)])
    with pytest.raises(ModelError, match="cannot be frozen"):
        flatten(b"no program")


class Sensitive:
    """A network of which some layers must stay in float: each one that does not costs its share."""

    def __init__(self, costs: dict[int, float]) -> None:
        self.costs = costs
        self.asked: list[tuple[frozenset[int], Ranges]] = []

    def __call__(self, keep: frozenset[int], ranges: Ranges) -> Attempt:
        self.asked.append((keep, ranges))
        return Attempt(keep, ranges, 1.0 - sum(cost for layer, cost in self.costs.items() if layer not in keep))


def test_the_search_ends_as_soon_as_it_is_enough() -> None:
    network = Sensitive({})
    assert len(search(network, 20, [18, 19], 0.95)) == 1
    assert network.asked == [(frozenset(), "minmax")]


def test_heads_come_first_then_the_groups_that_help_most() -> None:
    heads = Sensitive({19: 0.2})
    assert best(search(heads, 20, [18, 19], 0.95)).keep_float == {18, 19}
    network = Sensitive({19: 0.1, 5: 0.1, 12: 0.2})
    attempts = search(network, 20, [18, 19], 0.95)
    found = best(attempts)
    assert {0, 5, 12, 18, 19} <= found.keep_float
    assert len(found.keep_float) < 12
    assert found.agreement == pytest.approx(1.0)


def test_the_search_is_bounded_and_ends_in_time() -> None:
    hopeless = Sensitive(dict.fromkeys(range(20), 0.05))
    assert len(search(hopeless, 20, [19], 0.999)) <= 4 + 2 * float_layers.GROUPS
    assert len(search(hopeless, 20, [19], 0.999, seconds=0.0)) == 1
    assert len(set(hopeless.asked[:-1])) == len(hopeless.asked[:-1])


def test_it_never_leaves_everything_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float_layers, "GROUPS", 1)
    hopeless = Sensitive(dict.fromkeys(range(6), 0.1))
    search(hopeless, 6, [5], 0.99)
    assert max(len(keep) for keep, _ in hopeless.asked) < 6


def test_a_failed_attempt_is_never_the_best() -> None:
    good = Attempt(frozenset([1]), "minmax", 0.4)
    assert best([Attempt(frozenset(), "minmax", 0.0, "no such operator"), good]) is good
