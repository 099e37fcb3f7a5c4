# SPDX-License-Identifier: Apache-2.0
"""Files of a run, beside what its sinks write.

``folder`` is where they go, ``resuming`` how a replay that was stopped goes on there, ``tracing`` is for ``--trace``
and ``--profile``; ``writable`` tries out whether sinks can write, ``written`` names what they wrote.
"""
