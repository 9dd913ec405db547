# SPDX-License-Identifier: Apache-2.0
"""Alerts of every analyser, received and parsed into the one event `AlertRaised`."""
