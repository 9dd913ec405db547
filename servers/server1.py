#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Server 1 of the demo, run in h1: the server that clients dial (the origin)."""

import sys

from line_server import main

if __name__ == "__main__":
    sys.exit(main("server1", "10.0.0.1", 11111))
