# SPDX-License-Identifier: Apache-2.0
"""A P4Runtime target in Python that runs what p4c compiles for bmv2, where bmv2 itself is not installed.

A program goes through `program` (the JSON, checked), `names`, `expressions`, `primitives`, `control`, `parsing`,
`packing` and `translate` (Python source), and comes out as functions that `switch` calls for every packet. `tables`,
`replication`, `hashes` hold what they consult; `ports` and `dataplane` bring the packets; `server` and what it
imports speak P4Runtime. Start it with `python -m p4src.target`.
"""
