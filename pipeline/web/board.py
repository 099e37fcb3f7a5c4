# SPDX-License-Identifier: Apache-2.0
"""What the server may know of the daemon, and the little that it may ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pipeline.ledger import Ledger


class Board(Protocol):
    """Implemented by the daemon. Called from the server's threads; nothing here waits."""

    @property
    def ledger(self) -> Ledger | None:
        """The accounts, or None while nothing runs yet."""
        ...

    @property
    def reload_succeeded(self) -> bool:
        """Whether the configuration that was read last is the one that runs."""
        ...

    @property
    def reloads(self) -> Mapping[str, int]:
        """How often the configuration was read again, by outcome."""
        ...

    def alive(self) -> bool:
        """Whether the main loop turns."""
        ...

    def prepared(self) -> bool:
        """Whether the model is warm, the sinks are open, and no stop was asked for."""
        ...

    def facts(self) -> dict[str, Any]:
        """``command``, ``model`` and ``startup_s``, as a report needs them."""
        ...

    def waiting(self) -> dict[str, int]:
        """Network inputs that wait for the detector, per stream."""
        ...

    def pause(self, name: str, paused: bool) -> bool:
        """Hold a stream or let it go on; False where it has ended or cannot be held."""
        ...
