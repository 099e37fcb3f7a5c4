# SPDX-License-Identifier: Apache-2.0
"""Secrets in URLs: one type that shows them to nobody, and one scrubber for texts made elsewhere."""
