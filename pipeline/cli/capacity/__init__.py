# SPDX-License-Identifier: Apache-2.0
"""Whether more is asked of this machine than it can do.

``demand`` says it before anything runs, ``overload`` while a daemon loses frames, ``strain`` why it does.
"""
