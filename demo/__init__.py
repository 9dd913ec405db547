# SPDX-License-Identifier: Apache-2.0
"""The demo: plays the scenario on topo.py's network, tells it as a timeline and draws it as a sequence diagram.

`capture` records, `openflow_log` and `journal` read, `steps` joins what they found, `sequence_diagram` draws,
`timeline` tells, `scenario` plays, `terminals` opens windows for those who rather type themselves.
"""
