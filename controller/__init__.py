# SPDX-License-Identifier: Apache-2.0
"""Baton: hand a live TCP connection, and the state that belongs to it, from one place to another."""
