# SPDX-License-Identifier: Apache-2.0
"""A world in one process and in virtual time: TCP peers, a switch with our flow tables, and the core that steers it."""
