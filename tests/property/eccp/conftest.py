# SPDX-License-Identifier: Apache-2.0
"""The fixture that unit tests of whole peers have."""

from unit.eccp.conftest import datapath

__all__ = ["datapath"]
