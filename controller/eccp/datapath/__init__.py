# SPDX-License-Identifier: Apache-2.0
"""The data path's inner loops, over whole runs of slices: in Python, and the same in C where it has been compiled."""
