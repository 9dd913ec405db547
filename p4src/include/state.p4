// SPDX-License-Identifier: Apache-2.0
// Live state: per-flow registers, per-client counter, and how a packet or a shipped record enters them.
// Included inside a control.
//
// Flow key: client address, client port, service id; the same at whichever server and in either direction.
// Counted registers are written in ingress alone: bmv2 runs ingress in one thread and egress in four.

#define CELL_SESSION(c) ((c)[247:216])
#define CELL_KEY(c) ((c)[215:152])
#define CELL_PACKETS(c) ((c)[151:120])
#define CELL_BYTES(c) ((c)[119:56])
#define CELL_SEEN(c) ((c)[55:24])
#define CELL_VERDICT(c) ((c)[23:16])
#define CELL_ORDER(c) ((c)[15:0])      // sequence number of the packet that the verdict came in

register<bit<64>>(ENTRIES) flow_key;
register<bit<32>>(ENTRIES) flow_packets;
register<bit<64>>(ENTRIES) flow_bytes;         // IP total length
register<bit<32>>(ENTRIES) flow_seen;          // ticks of 1,024 us
register<bit<8>>(ENTRIES) flow_verdict;
register<bit<8>>(ENTRIES / FLOWS_PER_PACKET + 8) flow_mark;    // per block: bit 1 ever used, bit 0 changed since it was shipped

register<bit<32>>(ENTRIES) client_packets;     // indexed by a hash of the client's address; no key: a sketch
register<bit<8>>(ENTRIES / CLIENTS_PER_PACKET + 8) client_mark;    // the 8 more cells are never set: a scan reads past the end

counter(EVENTS, CounterType.packets) events;

// Merge rules: packets and bytes add, the later `seen` stays, a verdict replaces unless it is VERDICT_NONE.
// A record whose entry belongs to another key is left out (record_fits = 0): counted, never merged.
action merge_record() {
    flow_key.read(meta.entry_key, meta.record_index);
    meta.record_fits = 0;
    if (meta.entry_key == 0 || meta.entry_key == meta.record_key) {
        meta.record_fits = 1;
        flow_packets.read(meta.entry_packets, meta.record_index);
        flow_bytes.read(meta.entry_bytes, meta.record_index);
        flow_seen.read(meta.entry_seen, meta.record_index);
        meta.entry_packets = meta.entry_packets + meta.record_packets;
        meta.entry_bytes = meta.entry_bytes + meta.record_bytes;
        if (meta.entry_key == 0 || meta.now - meta.record_seen < meta.now - meta.entry_seen) {
            flow_seen.write(meta.record_index, meta.record_seen);
        }
        if (meta.record_verdict != VERDICT_NONE) {
            flow_verdict.write(meta.record_index, meta.record_verdict);
        }
        meta.entry_key = meta.record_key;
        flow_key.write(meta.record_index, meta.entry_key);
        flow_packets.write(meta.record_index, meta.entry_packets);
        flow_bytes.write(meta.record_index, meta.entry_bytes);
        meta.at = meta.record_index >> 4;
        flow_mark.write(meta.at, 3);
    }
}

action record_from_cell() {
    meta.record_valid = 0;
    if (CELL_SESSION(meta.staged_flow) == meta.in_session) {
        meta.record_valid = 1;
    }
    meta.record_key = CELL_KEY(meta.staged_flow);
    meta.record_packets = CELL_PACKETS(meta.staged_flow);
    meta.record_bytes = CELL_BYTES(meta.staged_flow);
    meta.record_seen = CELL_SEEN(meta.staged_flow);
    meta.record_verdict = CELL_VERDICT(meta.staged_flow);
}

action client_to_server(bit<16> service) {
    meta.service = service;
    meta.client = hdr.ipv4.source;
    meta.key = hdr.ipv4.source ++ hdr.ports.source ++ service;
}

action server_to_client(bit<16> service) {
    meta.service = service;
    meta.client = hdr.ipv4.destination;
    meta.key = hdr.ipv4.destination ++ hdr.ports.destination ++ service;
}

table service_by_destination {
    key = {
        hdr.ipv4.destination: exact @name("address");
        hdr.ipv4.protocol: exact @name("protocol");
        hdr.ports.destination: exact @name("port");
    }
    actions = { client_to_server; NoAction; }
    default_action = NoAction();
    size = 1024;
}

table service_by_source {
    key = {
        hdr.ipv4.source: exact @name("address");
        hdr.ipv4.protocol: exact @name("protocol");
        hdr.ports.source: exact @name("port");
    }
    actions = { server_to_client; NoAction; }
    default_action = NoAction();
    size = 1024;
}

action locate() {
    hash(meta.index, HashAlgorithm.crc32, 32w0, { meta.key }, ENTRIES);
    hash(meta.client_index, HashAlgorithm.crc32, 32w0, { meta.client }, ENTRIES);
    flow_key.read(meta.entry_key, meta.index);
}

action count_flow() {
    flow_packets.read(meta.entry_packets, meta.index);
    flow_bytes.read(meta.entry_bytes, meta.index);
    flow_verdict.read(meta.entry_verdict, meta.index);
    flow_key.write(meta.index, meta.key);
    meta.entry_packets = meta.entry_packets + 1;
    meta.entry_bytes = meta.entry_bytes + (bit<64>) hdr.ipv4.total_length;
    flow_packets.write(meta.index, meta.entry_packets);
    flow_bytes.write(meta.index, meta.entry_bytes);
    flow_seen.write(meta.index, meta.now);
    meta.at = meta.index >> 4;
    flow_mark.write(meta.at, 3);
    events.count(EVENT_COUNTED);
}

action count_client() {
    client_packets.read(meta.even, meta.client_index);
    meta.even = meta.even + 1;
    client_packets.write(meta.client_index, meta.even);
    meta.at = meta.client_index >> 7;
    client_mark.write(meta.at, 3);
}

action drop() {
    mark_to_drop(standard_metadata);
}

action to_port(port_t port) {
    standard_metadata.egress_spec = port;
}

action flood(bit<16> group) {
    standard_metadata.mcast_grp = group;
}

// Ternary, so that "all that enters port 1 leaves by port 2" and "this address is behind port 3" are one entry each.
table forward {
    key = {
        standard_metadata.ingress_port: ternary @name("port");
        hdr.ethernet.destination: ternary @name("address");
    }
    actions = { to_port; flood; drop; }
    default_action = drop();
    size = 1024;
}
