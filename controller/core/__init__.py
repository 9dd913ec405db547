# SPDX-License-Identifier: Apache-2.0
"""Pure protocol logic: events in, commands out, no clock, no socket, no randomness."""
