# SPDX-License-Identifier: Apache-2.0
"""The one seam to the OpenFlow framework: nothing outside this room imports Ryu or OS-Ken.

Kept free of imports: the start-up hook of ``eventlet_compat`` loads this package in every interpreter.
"""
