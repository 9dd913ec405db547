# SPDX-License-Identifier: Apache-2.0
"""The edge of ECCP: UDP sockets, the TUN device, netlink, the control socket.  Only this room opens sockets."""
