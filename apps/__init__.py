# SPDX-License-Identifier: Apache-2.0
"""Ryu apps, one a file: thin adapters between the event bus and the pure core."""
