# SPDX-License-Identifier: Apache-2.0
"""State shipping between P4 switches: pure session machines, a P4Runtime client, and the agent beside each switch."""
