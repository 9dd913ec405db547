# SPDX-License-Identifier: Apache-2.0
"""Formal models of ECCP and its rivals, their proofs, and the runner that checks them all."""
