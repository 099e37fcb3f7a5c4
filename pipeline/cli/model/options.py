# SPDX-License-Identifier: Apache-2.0
"""``--config`` and ``--adapter``: what the commands of the workshop are told of a model that its file does not say."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.program.parser import Parser
from pipeline.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from pipeline.config.detection import ModelConfig


def add_model_options(parser: Parser) -> None:
    """Add the two options."""
    parser.add_argument("--adapter", metavar="NAME", help="family of its outputs (recognised by default)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="streams.yaml whose model section applies")


def model_section(options: argparse.Namespace) -> ModelConfig:
    """The configuration's, or an empty one; raises ConfigError. Nothing heavy is imported."""
    from pipeline.config import load_config
    from pipeline.config.detection import ModelConfig

    if options.config is None:
        return ModelConfig()
    log = logging.getLogger("pipeline.config")
    before = log.level
    log.setLevel(logging.ERROR)  # that sinks are missing, or a password stands in a URL, is no matter here
    try:
        return load_config(options.config, streams_required=False).model
    finally:
        log.setLevel(before)


def model_config(
    options: argparse.Namespace, file: str | Path | None, section: ModelConfig | None = None, **usual: float
) -> ModelConfig:
    """A model as it is to be opened: by options, else by the configuration, else as is usual.

    Args:
        options: ``config`` and ``adapter``, and of ``device``, ``conf`` and ``iou`` those that the command has.
        file: the model as it was given; None takes that of the configuration. A digest that the configuration pins
            holds for the file that it names only.
        section: of the configuration, where it was read already.
        usual: ``confidence`` and ``iou`` where neither an option nor the configuration says them.

    Raises:
        UsageError: no model is named.
        ConfigError: a fault in the configuration, or in an option.
    """
    from pydantic import ValidationError

    from pipeline.config.detection import ModelConfig
    from pipeline.config.explain import explain

    section = model_section(options) if section is None else section
    if file is None and options.config is None:
        raise UsageError("which model? Give its file, or --config with a streams.yaml that names it")
    named = {"path": None if file is None else str(file), "confidence": getattr(options, "conf", None)}
    named |= {name: getattr(options, name, None) for name in ("device", "iou", "adapter")}
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    try:
        checked = ModelConfig.model_validate(given)
    except ValidationError as error:
        options_of = {"path": "FILE", "confidence": "--conf"}
        faults = [(str(fault.path[0]), fault.message) for fault in explain(error, ModelConfig)]
        raise ConfigError([f"{options_of.get(name, f'--{name}')}: {message}" for name, message in faults]) from None
    changes: dict[str, Any] = {name: value for name, value in usual.items() if name not in section.model_fields_set}
    changes |= {name: getattr(checked, name) for name in given}
    if file is not None and not same_model(str(file), section.path):
        changes["sha256"] = None
    if "adapter" in given and section.adapter not in (None, given["adapter"]):
        changes["adapter_options"] = None  # they are of the other adapter
    return section.model_copy(update=changes)


def same_model(one: str, other: str) -> bool:
    """Whether two paths lead to one file, or are one built-in model."""
    return one == other or os.path.realpath(one) == os.path.realpath(other)
