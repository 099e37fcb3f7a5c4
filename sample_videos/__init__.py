# SPDX-License-Identifier: Apache-2.0
"""Small rendered clips with exact ground truth; `python -m sample_videos.render` makes them anew."""
