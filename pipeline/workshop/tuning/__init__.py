# SPDX-License-Identifier: Apache-2.0
"""``model tune``: what is fastest on this machine, measured."""
