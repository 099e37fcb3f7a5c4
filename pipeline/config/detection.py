# SPDX-License-Identifier: Apache-2.0
"""The sections `model` and `batch`: the detector, and how frames go through it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, StrictInt, StrictStr

from pipeline.config.values import (
    AdapterOptions,
    Channels,
    ClassWanted,
    Deviations,
    Device,
    Digest,
    InputSize,
    ModelPath,
    NumberOrAuto,
    Scale,
    Section,
)


class InputSpecConfig(Section):
    """What the network wants to be given, where its file and its family do not say it, or say it wrong."""

    colour: Literal["rgb", "bgr"] | None = Field(default=None, description="Order of the channels.")
    scale: Scale = Field(default=None, description="The network's value per grey level.")
    mean: Channels = Field(
        default=None, description="Subtracted after scaling: one number, or one per channel in the order of `colour`."
    )
    std: Deviations = Field(default=None, description="What the difference is divided by, likewise.")
    fit: Literal["letterbox", "top_left", "stretch"] | None = Field(
        default=None,
        description="How a picture gets into the input: `letterbox` keeps its shape and centres it, `top_left` keeps "
        "it and pads right and below, `stretch` does not keep it.",
    )
    pad_value: StrictInt | None = Field(default=None, ge=0, le=255, description="Grey level of the padding.")
    stride: StrictInt | None = Field(
        default=None, ge=1, le=1024, description="Both sides of the input are multiples of it."
    )
    dtype: Literal["float32", "float16", "bfloat16", "uint8"] | None = Field(
        default=None, description="Number format of the input tensor; `uint8` takes no scale, mean or std."
    )
    layout: Literal["nchw", "nhwc"] | None = Field(default=None, description="Order of the input tensor's axes.")


class SwapConfig(Section):
    """How a new model is compared with the one in use before it takes over, while `run` goes on."""

    frames: StrictInt = Field(
        default=32,
        ge=0,
        le=1000,
        description="Live frames that both models are shown, as far as they come within 10 s; 0: it is not compared.",
    )
    min_agreement: float | None = Field(
        default=None,
        ge=0,
        le=1,
        strict=True,
        description="Least share of detections that both find (same class, IoU of at least 0.5); below it the new "
        "model is refused. Unset: the share is told, and nothing more.",
    )


class ModelConfig(Section):
    """The detector that all streams share."""

    path: ModelPath = Field(default="builtin:people", description="TorchScript or `.pt2` file, or `builtin:people`.")
    device: Device = Field(default="auto", description="Where it runs: `auto`, `cpu`, `cuda` or `cuda:0`.")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        default="auto", description="Number format of the network."
    )
    confidence: float = Field(
        default=0.4, ge=0, le=1, strict=True, description="Least confidence of a detection, 0 to 1."
    )
    iou: float = Field(
        default=0.5, ge=0, le=1, strict=True, description="Overlap (IoU) above which the weaker of two boxes goes."
    )
    max_detections: StrictInt = Field(default=300, ge=1, le=100_000, description="Most detections per frame.")
    classes: tuple[ClassWanted, ...] | None = Field(
        default=None, min_length=1, description="Names or ids of the classes to keep. Unset: all."
    )
    adapter: StrictStr | None = Field(
        default=None,
        min_length=1,
        description="How the model's output is read: a family such as `ultralytics`, an entry point of the group "
        "`pipeline.adapters`, or `package.module:factory`. Unset: recognised when the model is loaded.",
    )
    adapter_options: AdapterOptions = Field(
        default=None, description="Options of the adapter, such as `box` of `heatmap`; see docs/detectors.md."
    )
    input_spec: InputSpecConfig | None = Field(
        default=None,
        description="What the network wants to be given. What is unset of it is as the model or its family says.",
    )
    input: InputSize = Field(
        default=None,
        description="Network input in pixels: `[height, width]`, or one number for both. Unset: as the model says.",
    )
    trim: StrictBool = Field(
        default=True,
        description="Leave off padding that a stream's pictures do not need, where the model takes other shapes.",
    )
    names: tuple[StrictStr, ...] | None = Field(
        default=None, min_length=1, description="Class names in the order of class ids, for a model that brings none."
    )
    timeout_s: float = Field(
        default=60.0,
        ge=1,
        le=3600,
        strict=True,
        description="Longest that a batch may take. A model that hangs ends the program, to be restarted. In `run` "
        "loading, trying and warming it may take ten times as long together, and 300 s in any case.",
    )
    tuned: StrictBool = Field(
        default=True,
        description="Use what `pipeline model tune` found to be fastest on this machine, where it was asked.",
    )
    sha256: Digest | None = Field(
        default=None, description="Digest of the model file; any other file is refused. Unset: any file."
    )
    swap: SwapConfig = Field(
        default_factory=SwapConfig,
        description="What a model that is put in while `run` goes on must show first.",
    )


class BatchConfig(Section):
    """How frames of many streams go through the network together."""

    max_size: NumberOrAuto = Field(
        default="auto",
        description="Most frames in one batch. `auto`: as `pipeline model tune` found, else 8, in a replay 4.",
    )
    max_wait_ms: float = Field(
        default=10.0,
        ge=0,
        le=10_000,
        strict=True,
        description="Longest that a frame waits for others to join its batch, in ms. It waits less where measured "
        "rates and times of batches say that this gains less.",
    )
    workers: NumberOrAuto = Field(
        default="auto",
        description="Detector threads. `auto`: as `pipeline model tune` found, else one per "
        "core that affinity and a container's quota grant, on a GPU one.",
    )
