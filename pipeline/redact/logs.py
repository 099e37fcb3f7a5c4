# SPDX-License-Identifier: Apache-2.0
"""No log record leaves the program with a secret in it."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.redact.scrubbing import scrub


class ScrubbingFilter(logging.Filter):
    """Scrubs log records, exception texts included. Put it on handlers: filters of a logger do not see its children's
    records."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace every text of ``record`` by its scrubbed form; lets every record pass."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError, IndexError, AttributeError):
            message = f"{record.msg!r} with arguments that do not fit {record.args!r}"
        record.msg, record.args = scrub(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        # Without exc_info no later formatter can make the text anew from the exception itself.
        record.exc_info = None
        for name, value in list(vars(record).items()):
            if name != "msg":
                setattr(record, name, _scrubbed(value))
        return True


def _scrubbed(value: Any) -> Any:
    return scrub(value) if isinstance(value, str) else value
