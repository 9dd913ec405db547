# SPDX-License-Identifier: Apache-2.0
"""Codecs: bytes to and from frozen dataclasses."""
