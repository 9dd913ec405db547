#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Server 2 of the demo, run in h2: the server that takes over migrated connections (the target)."""

import sys

from line_server import main

if __name__ == "__main__":
    sys.exit(main("server2", "10.0.0.2", 22222))
