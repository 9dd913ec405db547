# SPDX-License-Identifier: Apache-2.0
"""The parts that topo.py builds its network from; like topo.py they import Mininet and the standard library alone."""
