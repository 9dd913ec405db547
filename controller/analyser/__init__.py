# SPDX-License-Identifier: Apache-2.0
"""Runs the analyser (Snort 2.9, Snort 3 or Suricata) for Baton: configuration, start, live rule changes, stop."""
