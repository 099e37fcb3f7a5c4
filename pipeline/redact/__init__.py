# SPDX-License-Identifier: Apache-2.0
"""Secrets in URLs: one type that shows them to nobody, and one scrubber for texts made elsewhere.

Two lines of defence. :class:`SourceUrl` and :class:`Secret` hold what is secret and have a harmless text form, so that
this program never writes a secret by itself. :func:`scrub` is for texts that others made (libav puts whole URLs into
its error messages): it removes every secret that was ever registered, however it is encoded, and whatever looks like
credentials although nobody registered it. When in doubt it removes too much.
"""

from pipeline.redact.logs import ScrubbingFilter
from pipeline.redact.scrubbing import Scrubber, register_secret, scrub
from pipeline.redact.sealed import Secret
from pipeline.redact.source_url import SourceUrl

__all__ = ["Scrubber", "ScrubbingFilter", "Secret", "SourceUrl", "register_secret", "scrub"]
