# SPDX-License-Identifier: Apache-2.0
"""What a decoding process is asked to read, made into a source."""

from __future__ import annotations

from typing import Any

from pipeline.protocols import Source
from pipeline.redact import SourceUrl
from pipeline.sources.auto_skip import AutoSkip
from pipeline.sources.camera import CameraSource
from pipeline.sources.device import DeviceSource
from pipeline.sources.file import FileSource
from pipeline.sources.isolation.connection import Beat
from pipeline.sources.looping import Looping
from pipeline.sources.paced import Paced


class Maker:
    """Makes the sources of orders. What ``skip: auto`` has learned outlives a connection."""

    def __init__(self) -> None:
        self._auto: Any = None

    def __call__(self, order: dict[str, Any], beat: Beat) -> Source:
        """The source of an order: ``kind``, ``address``, ``skip`` and the keywords of its class."""
        options = dict(order["options"])
        if "codecs" in options:
            options["codecs"] = frozenset(options["codecs"])
        if order["kind"] == "copy":
            return _copy(order["address"], options, beat)
        if order["kind"] == "device":
            device = DeviceSource(order["address"], **options)
            device.watch(beat)
            return device
        if order["auto_skip"] is not None:
            self._auto = options["skip"] = self._auto or AutoSkip(*order["auto_skip"])
        camera = CameraSource(SourceUrl.parse(order["address"]), **options)
        camera.watch(beat)
        return camera


def _copy(address: str, options: dict[str, Any], beat: Beat) -> Source:
    """A recording that plays a camera: again and again, at its own pace."""

    def lap() -> Source:
        file = FileSource(address, **options)
        file.watch(beat)
        return file

    return Paced(Looping(lap), wall=True)
