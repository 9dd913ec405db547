// SPDX-License-Identifier: Apache-2.0
// Source half of the sync engine. Included inside a control.
//
// A walking token visits the blocks of a round in order. Each visit *moves* the block from live state into the
// outbox (one ingress pass, so no packet is counted in between), and sends it. The outbox, indexed by sequence
// number, is the frozen bank: a retransmission reads it and is byte-identical; an abort adds it back to live state.

register<bit<32>>(1) out_session;
register<bit<8>>(1) out_phase;
register<bit<16>>(1) out_round;
register<bit<16>>(1) out_walk;                 // array, mode
register<bit<32>>(1) out_cursor;               // next entry of this round
register<bit<32>>(1) out_last;                 // last entry of this round
register<bit<32>>(1) out_sequence;             // next sequence number = packets made
register<bit<64>>(1) out_previous;             // MAC of the packet made last
register<bit<32>>(1) out_undo;                 // next sequence number to restore or release
register<bit<32>>(1) out_finished;             // the session that was closed last: its number is spent
register<bit<64>>(SEQUENCES * 64) outbox;
register<bit<128>>(SEQUENCES) outbox_header;   // array, round, count, base, 0
register<bit<64>>(SEQUENCES) outbox_mac;

action load_outgoing() {
    out_session.read(meta.out_session, 0);
    out_phase.read(meta.phase, 0);
    out_round.read(meta.round, 0);
    out_cursor.read(meta.cursor, 0);
    out_last.read(meta.last, 0);
    out_sequence.read(meta.sequence, 0);
    out_previous.read(meta.previous, 0);
    out_undo.read(meta.undo, 0);
    out_finished.read(meta.finished, 0);
}

action load_walk() {
    out_walk.read(meta.walk, 0);
    meta.array = meta.walk[15:8];
    meta.mode = meta.walk[7:0];
}

action open_outgoing() {
    meta.out_session = hdr.packet_out.session;
    meta.phase = PHASE_OPEN;
    meta.round = 0;
    meta.cursor = 1;
    meta.last = 0;
    meta.sequence = 0;
    meta.previous = 0;
    meta.undo = 0;
    out_session.write(0, meta.out_session);
    out_phase.write(0, PHASE_OPEN);
    out_round.write(0, 0);
    out_cursor.write(0, 1);
    out_last.write(0, 0);
    out_sequence.write(0, 0);
    out_previous.write(0, 0);
    out_undo.write(0, 0);
}

// Argument: array (8), mode (8), first entry (24), last entry (24).
action start_round() {
    meta.round = hdr.packet_out.credit;
    meta.cursor = (bit<32>) hdr.packet_out.argument[47:24];
    meta.last = (bit<32>) hdr.packet_out.argument[23:0];
    out_round.write(0, meta.round);
    out_walk.write(0, hdr.packet_out.argument[63:48]);
    out_cursor.write(0, meta.cursor);
    out_last.write(0, meta.last);
}

// Finds the next block that the round wants among 8: a pass for every block of a sparse array would take seconds.
#define LOOK(mark, shift, size, k) \
    mark.read(meta.one_mark, meta.at); \
    meta.at = meta.at - 1; \
    if (((meta.one_mark | 4) & meta.wanted) != 0) { \
        meta.base = meta.cursor + k * size; \
        meta.block_mark = meta.one_mark; \
    }
#define SCAN(mark, shift, size) \
    meta.wanted = 1; \
    if (meta.mode == WALK_ALL) { \
        meta.wanted = 4; \
    } else if (meta.mode == WALK_OCCUPIED) { \
        meta.wanted = 3; \
    } \
    meta.base = meta.cursor + 7 * size; \
    meta.block_mark = 0x80; \
    meta.at = (meta.cursor >> shift) + 7; \
    LOOK(mark, shift, size, 7) LOOK(mark, shift, size, 6) LOOK(mark, shift, size, 5) LOOK(mark, shift, size, 4) \
    LOOK(mark, shift, size, 3) LOOK(mark, shift, size, 2) LOOK(mark, shift, size, 1) LOOK(mark, shift, size, 0) \
    meta.cursor = meta.base + size; \
    out_cursor.write(0, meta.cursor);
action scan_clients() {
    SCAN(client_mark, 7, CLIENTS_PER_PACKET)
}
action scan_flows() {
    SCAN(flow_mark, 4, FLOWS_PER_PACKET)
}

action clean_clients_mark() {
    meta.at = meta.base >> 7;
    meta.block_mark = meta.block_mark & 2;
    client_mark.write(meta.at, meta.block_mark);
}
action clean_flows_mark() {
    meta.at = meta.base >> 4;
    meta.block_mark = meta.block_mark & 2;
    flow_mark.write(meta.at, meta.block_mark);
}

// Entries 2n and 2n + 1 of the block into word n. bmv2 zeroes a header that becomes valid: first valid, then filled.
#define GATHER_CLIENTS(n) \
    client_packets.read(meta.even, meta.at); \
    NEXT_CELL \
    client_packets.read(meta.odd, meta.at); \
    NEXT_CELL \
    hdr.body.w##n = meta.even ++ meta.odd;
action gather_clients() {
    meta.at = meta.base;
    hdr.body.setValid();
    EACH_WORD(GATHER_CLIENTS)
}

#define CLEAR_CLIENTS(n) \
    client_packets.write(meta.at, 0); \
    NEXT_CELL \
    client_packets.write(meta.at, 0); \
    NEXT_CELL
action clear_clients() {
    meta.at = meta.base;
    EACH_WORD(CLEAR_CLIENTS)
}

// A record: key; packets, age; bytes; verdict.
#define GATHER_RECORD(index, a, b, c, d) \
    flow_key.read(hdr.body.w##a, index); \
    flow_packets.read(meta.entry_packets, index); \
    flow_seen.read(meta.entry_seen, index); \
    hdr.body.w##b = meta.entry_packets ++ (meta.now - meta.entry_seen); \
    flow_bytes.read(hdr.body.w##c, index); \
    flow_verdict.read(meta.entry_verdict, index); \
    hdr.body.w##d = meta.entry_verdict ++ 56w0;

#define GATHER_FLOWS(j, a, b, c, d) GATHER_RECORD(meta.at, a, b, c, d) NEXT_CELL
action gather_flows() {
    meta.at = meta.base;
    hdr.body.setValid();
    EACH_RECORD(GATHER_FLOWS)
}

#define CLEAR_WORD(n) hdr.body.w##n = 0;
action gather_one_flow() {
    hdr.body.setValid();
    EACH_WORD(CLEAR_WORD)
    GATHER_RECORD(meta.base, 0, 1, 2, 3)
}

// Key, verdict and age stay, since the flow goes on here until it is cut over; release_record() removes them.
#define CLEAR_FLOWS(j, a, b, c, d) \
    flow_packets.write(meta.at, 0); \
    flow_bytes.write(meta.at, 0); \
    NEXT_CELL
action clear_flows() {
    meta.at = meta.base;
    EACH_RECORD(CLEAR_FLOWS)
}

action clear_one_flow() {
    flow_packets.write(meta.base, 0);
    flow_bytes.write(meta.base, 0);
}

action make_headers() {
    hdr.packet_out.setInvalid();
    hdr.padding.setInvalid();
    hdr.ethernet.setValid();
    hdr.ethernet.destination = 32w0x02BA7000 ++ meta.destination;
    hdr.ethernet.source = 32w0x02BA7000 ++ meta.source;
    hdr.ethernet.ethertype = ETHERTYPE_SYNC;
    hdr.sync.setValid();
    hdr.sync.version = SYNC_VERSION;
    hdr.sync.array = meta.array;
    hdr.sync.round = meta.round;
    hdr.sync.session = meta.out_session;
    hdr.sync.nonce = meta.nonce;
    hdr.sync.source = meta.source;
    hdr.sync.destination = meta.destination;
    hdr.sync.sequence = meta.sequence;
    hdr.sync.count = meta.count;
    hdr.sync.suite = meta.suite;
    hdr.sync.base = meta.base;
    hdr.sync.previous = meta.previous;
    standard_metadata.egress_spec = meta.port;
}

#define STORE_WORD(n) outbox.write(meta.at, hdr.body.w##n); NEXT_CELL
action store_packet() {
    hdr.sync.mac = meta.digest;    // 0 in baseline.p4
    meta.at = meta.sequence << 6;
    EACH_WORD(STORE_WORD)
    outbox_header.write(meta.sequence, hdr.sync.array ++ 8w0 ++ hdr.sync.round ++ hdr.sync.count ++ 16w0 ++ hdr.sync.base ++ 32w0);
    outbox_mac.write(meta.sequence, meta.digest);
    out_previous.write(0, meta.digest);
    meta.at = meta.sequence + 1;
    out_sequence.write(0, meta.at);
    events.count(EVENT_SYNC_SENT);
}

// `sequence` is that of the packet wanted.
#define LOAD_WORD(n) outbox.read(hdr.body.w##n, meta.at); NEXT_CELL
action load_packet() {
    hdr.body.setValid();
    meta.at = meta.sequence << 6;
    EACH_WORD(LOAD_WORD)
    outbox_header.read(meta.described, meta.sequence);
    meta.array = meta.described[127:120];
    meta.round = meta.described[111:96];
    meta.count = meta.described[95:80];
    meta.base = meta.described[63:32];
}

action load_macs() {
    outbox_mac.read(hdr.sync.mac, meta.sequence);
    hdr.sync.previous = 0;
    if (meta.sequence != 0) {
        meta.at = meta.sequence - 1;
        outbox_mac.read(hdr.sync.previous, meta.at);
    }
    events.count(EVENT_SYNC_RESENT);
}

#define RESTORE_CLIENTS(n) \
    client_packets.read(meta.even, meta.at); \
    meta.even = meta.even + hdr.body.w##n[63:32]; \
    client_packets.write(meta.at, meta.even); \
    NEXT_CELL \
    client_packets.read(meta.even, meta.at); \
    meta.even = meta.even + hdr.body.w##n[31:0]; \
    client_packets.write(meta.at, meta.even); \
    NEXT_CELL
action restore_clients() {
    meta.at = meta.base;
    EACH_WORD(RESTORE_CLIENTS)
    meta.at = meta.base >> 7;
    client_mark.write(meta.at, 3);
}

// Live `seen` is never cleared, so what comes back must not be younger than it; nor is the verdict, which may have been
// changed since the record was made.
#define RECORD_FROM_BODY(j, a, b, c, d) \
    action record_from_body_##j() { \
        meta.record_valid = 0; \
        if (hdr.body.w##a != 0) { \
            meta.record_valid = 1; \
        } \
        meta.record_key = hdr.body.w##a; \
        meta.record_packets = hdr.body.w##b[63:32]; \
        meta.record_seen = meta.now - 32w0x7fffffff; \
        meta.record_bytes = hdr.body.w##c; \
        meta.record_verdict = VERDICT_NONE; \
        hash(meta.record_index, HashAlgorithm.crc32, 32w0, { hdr.body.w##a }, ENTRIES); \
    }
EACH_RECORD(RECORD_FROM_BODY)

// The entry goes when nothing was counted in it since it was shipped.
#define RELEASE_FLOWS(j, a, b, c, d) \
    hash(meta.record_index, HashAlgorithm.crc32, 32w0, { hdr.body.w##a }, ENTRIES); \
    flow_key.read(meta.entry_key, meta.record_index); \
    flow_packets.read(meta.entry_packets, meta.record_index); \
    if (meta.entry_key == hdr.body.w##a && meta.entry_packets == 0) { \
        flow_key.write(meta.record_index, 0); \
        flow_verdict.write(meta.record_index, VERDICT_NONE); \
    }
action release_flows() {
    EACH_RECORD(RELEASE_FLOWS)
}
