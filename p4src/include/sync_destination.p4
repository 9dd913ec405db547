// SPDX-License-Identifier: Apache-2.0
// Destination half of the sync engine. Included inside a control.
//
// An authentic packet is staged once, whatever the order of arrival; nothing touches live state before the mark of
// the session says committed. Then the first packet that touches an entry folds it, and a sweep folds the rest.
// Links are counted as packets arrive: a chain is whole when links = count = the number of packets that were sent.

register<bit<32>>(1) in_session;
register<bit<32>>(1) in_count;
register<bit<32>>(1) in_links;
register<bit<32>>(1) in_conflicts;             // staged records whose live entry belongs to another key
register<bit<32>>(1) in_swept;                 // next sequence number to sweep
register<bit<32>>(1) in_finished;              // the session that was committed and swept last: its number is spent
register<bit<64>>(BITMAP_WORDS + 1) in_bitmap;
register<bit<64>>(SEQUENCES + 1) in_mac;
register<bit<64>>(SEQUENCES + 1) in_previous;
register<bit<40>>(SEQUENCES) in_block;         // array, base
register<bit<32>>(SEQUENCES * 16) in_index;    // where each record of a packet was staged

register<bit<64>>(ENTRIES) staged_client;      // session, value
register<bit<248>>(ENTRIES) staged_flow;       // session, key, packets, bytes, seen, verdict, order

action load_incoming() {
    in_count.read(meta.staged, 0);
    in_links.read(meta.links, 0);
    in_conflicts.read(meta.conflicts, 0);
    in_swept.read(meta.swept, 0);
    in_finished.read(meta.finished, 0);
}

#define CLEAR_BITMAP(n) \
    in_bitmap.write(2 * n, 0); \
    in_bitmap.write(2 * n + 1, 0);
action open_incoming() {
    meta.in_session = hdr.packet_out.session;
    meta.staged = 0;
    meta.links = 0;
    meta.conflicts = 0;
    meta.swept = 0;
    in_session.write(0, meta.in_session);
    in_count.write(0, 0);
    in_links.write(0, 0);
    in_conflicts.write(0, 0);
    in_swept.write(0, 0);
    EACH_WORD(CLEAR_BITMAP)
}

action check_duplicate() {
    meta.at = hdr.sync.sequence >> 6;
    in_bitmap.read(meta.bitmap, meta.at);
    meta.duplicate = (bit<1>) (meta.bitmap >> (bit<8>) hdr.sync.sequence[5:0]);
}

// Marks the packet as staged, and counts the links to its neighbours that are here already.
// Number 0 must name 0 as its previous MAC; that counts as its link.
action link_packet() {
    meta.at = hdr.sync.sequence >> 6;
    meta.bitmap = meta.bitmap | (64w1 << (bit<8>) hdr.sync.sequence[5:0]);
    in_bitmap.write(meta.at, meta.bitmap);
    in_mac.write(hdr.sync.sequence, hdr.sync.mac);
    in_previous.write(hdr.sync.sequence, hdr.sync.previous);
    meta.block = hdr.sync.array ++ hdr.sync.base;
    in_block.write(hdr.sync.sequence, meta.block);
    if (hdr.sync.sequence == 0) {
        if (hdr.sync.previous == 0) {
            meta.links = meta.links + 1;
        }
    } else {
        meta.base = hdr.sync.sequence - 1;
        meta.at = meta.base >> 6;
        in_bitmap.read(meta.neighbour, meta.at);
        in_mac.read(meta.linked, meta.base);
        if ((bit<1>) (meta.neighbour >> (bit<8>) meta.base[5:0]) == 1 && meta.linked == hdr.sync.previous) {
            meta.links = meta.links + 1;
        }
    }
    meta.base = hdr.sync.sequence + 1;
    meta.at = meta.base >> 6;
    in_bitmap.read(meta.neighbour, meta.at);
    in_previous.read(meta.linked, meta.base);
    if ((bit<1>) (meta.neighbour >> (bit<8>) meta.base[5:0]) == 1 && meta.linked == hdr.sync.mac) {
        meta.links = meta.links + 1;
    }
    meta.staged = meta.staged + 1;
    in_count.write(0, meta.staged);
    in_links.write(0, meta.links);
    events.count(EVENT_SYNC_STAGED);
}

// A later round adds to what an earlier one staged for the same entry.
#define STAGE_LANE(value) \
    staged_client.read(meta.staged_client, meta.at); \
    if (meta.staged_client[63:32] == hdr.sync.session) { \
        meta.staged_client = hdr.sync.session ++ (value + meta.staged_client[31:0]); \
    } else { \
        meta.staged_client = hdr.sync.session ++ value; \
    } \
    staged_client.write(meta.at, meta.staged_client); \
    NEXT_CELL
#define STAGE_CLIENTS(n) \
    STAGE_LANE(hdr.body.w##n[63:32]) \
    STAGE_LANE(hdr.body.w##n[31:0])
action stage_clients() {
    meta.at = hdr.sync.base;
    EACH_WORD(STAGE_CLIENTS)
}

// The entry is found by the key that the record carries, never by where the source kept it. Sums do not mind the order
// in which packets arrive; of two verdicts the one that was sent later stays.
#define STAGE_RECORD(j, a, b, c, d) \
    action stage_record_##j() { \
        hash(meta.record_index, HashAlgorithm.crc32, 32w0, { hdr.body.w##a }, ENTRIES); \
        staged_flow.read(meta.staged_flow, meta.record_index); \
        flow_key.read(meta.entry_key, meta.record_index); \
        meta.record_packets = hdr.body.w##b[63:32]; \
        meta.record_bytes = hdr.body.w##c; \
        meta.record_seen = meta.now - hdr.body.w##b[31:0]; \
        meta.record_verdict = hdr.body.w##d[63:56]; \
        meta.record_order = hdr.sync.sequence[15:0]; \
        meta.conflict = 0; \
        if (CELL_SESSION(meta.staged_flow) == hdr.sync.session) { \
            if (CELL_KEY(meta.staged_flow) != hdr.body.w##a) { \
                meta.conflict = 1; \
            } \
            meta.record_packets = meta.record_packets + CELL_PACKETS(meta.staged_flow); \
            meta.record_bytes = meta.record_bytes + CELL_BYTES(meta.staged_flow); \
            if (meta.now - CELL_SEEN(meta.staged_flow) < hdr.body.w##b[31:0]) { \
                meta.record_seen = CELL_SEEN(meta.staged_flow); \
            } \
            if (meta.record_verdict == VERDICT_NONE || (CELL_VERDICT(meta.staged_flow) != VERDICT_NONE \
                    && CELL_ORDER(meta.staged_flow) > meta.record_order)) { \
                meta.record_verdict = CELL_VERDICT(meta.staged_flow); \
                meta.record_order = CELL_ORDER(meta.staged_flow); \
            } \
        } \
        if (meta.entry_key != 0 && meta.entry_key != hdr.body.w##a) { \
            meta.conflict = 1; \
        } \
        meta.conflicts = meta.conflicts + (bit<32>) meta.conflict; \
        meta.staged_flow = hdr.sync.session ++ hdr.body.w##a ++ meta.record_packets \
            ++ meta.record_bytes ++ meta.record_seen ++ meta.record_verdict ++ meta.record_order; \
        staged_flow.write(meta.record_index, meta.staged_flow); \
        meta.at = (hdr.sync.sequence << 4) + j; \
        in_index.write(meta.at, meta.record_index); \
    }
EACH_RECORD(STAGE_RECORD)

action save_conflicts() {
    in_conflicts.write(0, meta.conflicts);
}

// First touch of a client entry.
action fold_client() {
    client_packets.read(meta.even, meta.client_index);
    meta.even = meta.even + meta.staged_client[31:0];
    client_packets.write(meta.client_index, meta.even);
    staged_client.write(meta.client_index, 0);
}

#define FOLD_LANE \
    staged_client.read(meta.staged_client, meta.at); \
    if (meta.staged_client[63:32] == meta.in_session) { \
        client_packets.read(meta.even, meta.at); \
        meta.even = meta.even + meta.staged_client[31:0]; \
        client_packets.write(meta.at, meta.even); \
        staged_client.write(meta.at, 0); \
    } \
    NEXT_CELL
#define FOLD_CLIENTS(n) FOLD_LANE FOLD_LANE
action fold_clients() {
    meta.at = meta.base;
    EACH_WORD(FOLD_CLIENTS)
    meta.at = meta.base >> 7;
    client_mark.write(meta.at, 3);
}

// Where packet `swept` was staged; the sweep moves on.
action next_block() {
    in_block.read(meta.block, meta.swept);
    meta.array = meta.block[39:32];
    meta.base = meta.block[31:0];
    meta.at = meta.swept + 1;
    in_swept.write(0, meta.at);
}

// Takes record j of packet `swept` out of the staging area.
#define RECORD_FROM_STAGE(j, a, b, c, d) \
    action record_from_stage_##j() { \
        meta.at = (meta.swept << 4) + j; \
        in_index.read(meta.record_index, meta.at); \
        staged_flow.read(meta.staged_flow, meta.record_index); \
        record_from_cell(); \
        if (meta.record_valid == 1) { \
            staged_flow.write(meta.record_index, 0); \
        } \
    }
EACH_RECORD(RECORD_FROM_STAGE)
