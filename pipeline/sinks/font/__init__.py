# SPDX-License-Identifier: Apache-2.0
"""The letters that are drawn into pictures: a strip of glyphs rendered from Roboto Medium (see LICENSE.md here)."""
