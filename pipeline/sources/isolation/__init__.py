# SPDX-License-Identifier: Apache-2.0
"""``isolation: process``: a camera is met and decoded in a process of its own, which may crash without harm.

On the parents' side ``process`` is that process and ``source`` one connection that is read there; ``child`` is what
runs in it, with ``connection`` and ``orders``. Between the two are ``wire`` (what they say to each other), ``segment``
and ``loans`` (the memory in which pictures lie) and ``relay`` (packets, where they are recorded).
"""
