# SPDX-License-Identifier: Apache-2.0
"""Unix sockets that other processes reach the controller by: bound with care, served within bounds."""
