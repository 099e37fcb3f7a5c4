# SPDX-License-Identifier: Apache-2.0
"""What a process says that was taken over, or is broken."""

from __future__ import annotations


class Nonsense(ValueError):
    """A message that a sound process does not send."""
