# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: one file each, run as `python -m benchmarks NAME`; figures are measured here and asserted nowhere."""
