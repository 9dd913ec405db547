# SPDX-License-Identifier: Apache-2.0
"""A line of Suricata's EVE log, as Suricata 7.0 wrote it for a packet on a veth interface."""

RECORD = {
    "timestamp": "2026-11-20T13:49:51.545346+0000",
    "flow_id": 2060769798287616,
    "in_iface": "ids1",
    "event_type": "alert",
    "src_ip": "10.0.0.3",
    "src_port": 4000,
    "dest_ip": "10.0.0.1",
    "dest_port": 11111,
    "proto": "TCP",
    "pkt_src": "wire/pcap",
    "alert": {
        "action": "allowed",
        "gid": 1,
        "signature_id": 1000002,
        "rev": 2,
        "signature": "MIGRATE",
        "category": "Move the connection to another server",
        "severity": 1,
    },
    "payload": "bWlncmF0ZQ==",
    "packet": "AgAAAAACAgAAAAABCABFAAAvAAEAAEAGZsUKAAADCgAAAQ+gK2cAAeJAAAAAY1AYIADCxQAAbWlncmF0ZQ==",
    "packet_info": {"linktype": 1},
}
