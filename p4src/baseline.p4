// SPDX-License-Identifier: Apache-2.0
// The yardstick: ships the client array in packets of the same size and in the same way as flow_state.p4, without
// MAC, staging, outbox or any check. Never use it for anything but the comparison.

#include <core.p4>
#include <v1model.p4>

#include "include/lanes.p4"
#include "include/headers.p4"
#include "include/metadata.p4"
#include "include/parser.p4"

control BaselineIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    register<bit<32>>(ENTRIES) client_packets;
    register<bit<32>>(1) out_cursor;
    register<bit<32>>(1) out_last;
    register<bit<32>>(1) out_sequence;
    register<bit<32>>(1) in_count;

    action to_port(port_t port) {
        meta.port = port;
    }
    // No key: its default action names the fabric port.
    table fabric {
        actions = { to_port; NoAction; }
        default_action = NoAction();
    }

    action load() {
        out_cursor.read(meta.cursor, 0);
        out_last.read(meta.last, 0);
        out_sequence.read(meta.sequence, 0);
    }
    action start_round() {
        out_cursor.write(0, (bit<32>) hdr.packet_out.argument[47:24]);
        out_last.write(0, (bit<32>) hdr.packet_out.argument[23:0]);
        out_sequence.write(0, 0);
        in_count.write(0, 0);
    }
    action report(bit<8> state) {
        hdr.packet_in.setValid();
        hdr.packet_in.kind = hdr.packet_out.kind;
        hdr.packet_in.state = state;
        hdr.packet_in.round = 0;
        hdr.packet_in.session = hdr.packet_out.session;
        hdr.packet_in.count = meta.sequence;
        in_count.read(hdr.packet_in.links, 0);
        hdr.packet_in.detail = hdr.packet_out.argument;
        hdr.packet_in.digest = 0;
        hdr.packet_out.setInvalid();
        hdr.padding.setInvalid();
        standard_metadata.egress_spec = CPU_PORT;
    }

#define GATHER(n) \
    client_packets.read(meta.even, meta.cursor + 2 * n); \
    client_packets.read(meta.odd, meta.cursor + (2 * n + 1)); \
    hdr.body.w##n = meta.even ++ meta.odd;
    action gather() {
        hdr.body.setValid();
        EACH_WORD(GATHER)
    }
    action send() {
        hdr.packet_out.setInvalid();
        hdr.padding.setInvalid();
        hdr.ethernet.setValid();
        hdr.ethernet.destination = 48w0x02BA70000000;
        hdr.ethernet.source = 48w0x02BA70000000;
        hdr.ethernet.ethertype = ETHERTYPE_SYNC;
        hdr.sync.setValid();
        hdr.sync.version = SYNC_VERSION;
        hdr.sync.array = ARRAY_CLIENTS;
        hdr.sync.round = 0;
        hdr.sync.session = hdr.packet_out.session;
        hdr.sync.nonce = 0;
        hdr.sync.source = 0;
        hdr.sync.destination = 0;
        hdr.sync.sequence = meta.sequence;
        hdr.sync.count = (bit<16>) CLIENTS_PER_PACKET;
        hdr.sync.suite = SUITE_NONE;
        hdr.sync.base = meta.cursor;
        hdr.sync.previous = 0;
        hdr.sync.mac = 0;
        out_cursor.write(0, meta.cursor + CLIENTS_PER_PACKET);
        out_sequence.write(0, meta.sequence + 1);
        standard_metadata.egress_spec = meta.port;
    }
#define SCATTER(n) \
    client_packets.write(hdr.sync.base + 2 * n, hdr.body.w##n[63:32]); \
    client_packets.write(hdr.sync.base + (2 * n + 1), hdr.body.w##n[31:0]);
    action scatter() {
        EACH_WORD(SCATTER)
        in_count.read(meta.staged, 0);
        in_count.write(0, meta.staged + 1);
        mark_to_drop(standard_metadata);
    }

    apply {
        if (hdr.packet_out.isValid()) {
            meta.credit = hdr.packet_out.credit;
            load();
            if (hdr.packet_out.kind == TOKEN_ROUND) {
                start_round();
                report(STATE_OK);
            } else if (hdr.packet_out.kind == TOKEN_READ_BLOCK) {
                meta.cursor = hdr.packet_out.argument[31:0];
                gather();
                report(STATE_OK);
            } else if (hdr.packet_out.kind != TOKEN_WALK) {
                report(STATE_OK);
            } else if (meta.cursor > meta.last) {
                report(STATE_DONE);
            } else {
                fabric.apply();
                gather();
                send();
                if (meta.credit > 1) {
                    clone_preserving_field_list(CloneType.I2E, CLONE_SESSION, 8w1);
                }
            }
        } else if (hdr.body.isValid()) {
            scatter();
        } else {
            mark_to_drop(standard_metadata);
        }
    }
}

#include "include/egress.p4"

V1Switch(SwitchParser(), NoChecksum(), BaselineIngress(), SwitchEgress(), NoChecksum(), SwitchDeparser()) main;
