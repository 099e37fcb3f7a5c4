# SPDX-License-Identifier: Apache-2.0
"""INT8 from a TorchScript file alone against the same file as people run it: ``torch.jit.load`` and a call, one thread.

Networks of torchvision with random weights and a small detection head; the network alone, one picture of 320 x 320.
Verified first: the INT8 program's outputs stay near those of the float one. Then medians, all programs in turns.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

from pipeline.detectors.loading.preparing import prepare
from pipeline.detectors.torch_messages import quiet
from pipeline.frame import InputSpec
from pipeline.workshop.frames import items, sample
from pipeline.workshop.int8.graph import flatten, has_fast_int8, head_layers, quantize_program

SIDE = 320


class Headed(nn.Module):
    """A backbone and one convolution that gives 4 + 3 values per cell."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Conv2d(width, 7, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = self.head(self.body(x)).flatten(2)
        return torch.cat((found[:, :4].exp(), found[:, 4:].sigmoid()), 1)


def resnet18() -> nn.Module:
    """ResNet class."""
    return Headed(nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-2]), 512)


def mobilenet() -> nn.Module:
    """Depthwise class, with hard-swish and squeeze-and-excitation."""
    return Headed(torchvision.models.mobilenet_v3_large(weights=None).features, 960)


def shufflenet() -> nn.Module:
    """Depthwise class, with channel shuffles."""
    net = torchvision.models.shufflenet_v2_x1_0(weights=None)
    return Headed(nn.Sequential(net.conv1, net.maxpool, net.stage2, net.stage3, net.stage4, net.conv5), 1024)


def pictures(count: int) -> list[Tensor]:
    """Frames of the test pattern as (1, 3, 320, 320), 0..1."""
    made = items(sample(None, count), InputSpec(SIDE, SIDE))
    return [torch.from_numpy(item.input).permute(2, 0, 1)[None].float().div(255.0) for item in made]


def measure(build: Callable[[], nn.Module], rounds: int) -> dict[str, float]:
    """Milliseconds of each program, the ratio to the plain one, and how far INT8 is off."""
    torch.manual_seed(0)
    given = pictures(12)
    module = build().train()
    with torch.no_grad():
        module(torch.cat(given[:4]))  # statistics of batch normalisation
    stored = io.BytesIO()
    with quiet():
        torch.jit.save(torch.jit.trace(module.eval(), given[0]), stored)
    data = stored.getvalue()

    def calibrate(prepared: nn.Module) -> None:
        with torch.no_grad():
            for picture in given[:8]:
                prepared(picture)

    with quiet():
        plain = torch.jit.load(io.BytesIO(data))
        small = quantize_program(data, calibrate, keep_float=frozenset(head_layers(flatten(data))))
        programs = {
            "plain": (plain, [picture.contiguous() for picture in given]),
            "fp32": (prepare(torch.jit.load(io.BytesIO(data))), [_last(picture) for picture in given]),
            "int8": (small, [_last(picture) for picture in given]),
        }
    times: dict[str, list[float]] = {name: [] for name in programs}
    with torch.inference_mode():
        expected, found = plain(given[-1])[:, 4:], small(given[-1])[:, 4:]
        error = float((expected - found).abs().mean())
        assert error < 0.05, f"INT8 scores are off by {error:.3f} on average"
        for number in range(-4, rounds):
            for name, (program, inputs) in programs.items():
                begun = time.perf_counter()
                program(inputs[number % len(inputs)])
                if number >= 0:
                    times[name].append((time.perf_counter() - begun) * 1e3)
    medians = {f"{name}_ms": round(statistics.median(taken), 3) for name, taken in times.items()}
    ratios = {
        "ratio_fp32": round(medians["plain_ms"] / medians["fp32_ms"], 3),
        "ratio_int8": round(medians["plain_ms"] / medians["int8_ms"], 3),
    }
    return {**medians, **ratios, "mean_score_error": round(error, 5)}


def _last(picture: Tensor) -> Tensor:
    return picture.contiguous(memory_format=torch.channels_last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = {build.__name__: measure(build, options.rounds) for build in (resnet18, mobilenet, shufflenet)}
    if options.json:
        print(json.dumps({"fast_int8": has_fast_int8(), "networks": figures}))
        return
    for name, row in figures.items():
        print(
            f"{name:<11} plain {row['plain_ms']:7.2f} ms   fp32 {row['fp32_ms']:7.2f} ms ({row['ratio_fp32']:.2f} x)   "
            f"int8 {row['int8_ms']:7.2f} ms ({row['ratio_int8']:.2f} x, scores off by {row['mean_score_error']:.4f})"
        )


if __name__ == "__main__":
    main()
