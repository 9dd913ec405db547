// SPDX-License-Identifier: Apache-2.0
// What the project's own programs leave unused of the embedded target: checksums, longest prefix, range and constant
// entries, hit and action_run, resubmission, multicast, clones with kept metadata, two hashes.
//
// Compiled into features.json and features.p4info.txtpb beside it:
//   p4c-bm2-ss --std p4-16 --p4runtime-files features.p4info.txtpb -o features.json features.p4

#include <core.p4>
#include <v1model.p4>

header ethernet_t {
    bit<48> destination;
    bit<48> source;
    bit<16> ethertype;
}

header ipv4_t {
    bit<4> version;
    bit<4> ihl;
    bit<8> tos;
    bit<16> total_length;
    bit<16> identification;
    bit<3> flags;
    bit<13> fragment_offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> checksum;
    bit<32> source;
    bit<32> destination;
}

struct headers_t {
    ethernet_t ethernet;
    ipv4_t ipv4;
}

struct metadata_t {
    @field_list(1, 2)
    bit<8> passes;
    @field_list(2)
    bit<8> kind;
    bit<16> hash16;
    bit<16> wide;
}

parser FeaturesParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    state start {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ethertype) {
            0x0800: parse_ipv4;
            0x9000 &&& 0xff00: odd;
            default: accept;
        }
    }
    state parse_ipv4 {
        packet.extract(hdr.ipv4);
        transition accept;
    }
    state odd {
        meta.wide = 0x1234;
        transition accept;
    }
}

#define SUMMED { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos, hdr.ipv4.total_length, hdr.ipv4.identification, \
    hdr.ipv4.flags, hdr.ipv4.fragment_offset, hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.source, hdr.ipv4.destination }

control Verify(inout headers_t hdr, inout metadata_t meta) {
    apply {
        verify_checksum(hdr.ipv4.isValid(), SUMMED, hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control Update(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(hdr.ipv4.isValid(), SUMMED, hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control FeaturesIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    counter(4, CounterType.packets_and_bytes) seen;
    register<bit<16>>(3) last;

    action drop() {
        mark_to_drop(standard);
    }
    action to_port(bit<9> port) {
        standard.egress_spec = port;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
    }
    action to_group(bit<16> group) {
        standard.mcast_grp = group;
    }
    table route {
        key = {
            hdr.ipv4.destination: lpm;
            hdr.ethernet.ethertype: exact;
        }
        actions = { to_port; to_group; drop; }
        default_action = drop();
        size = 8;
    }

    action set_kind(bit<8> kind) {
        meta.kind = kind;
    }
    action set_hash() {
        hash(meta.hash16, HashAlgorithm.crc16, 16w5, { hdr.ipv4.source, hdr.ipv4.destination }, 32w1000);
    }
    action send_copy() {
        meta.kind = 9;
        clone_preserving_field_list(CloneType.I2E, 5, 2);
    }
    table classify {
        key = {
            hdr.ipv4.total_length: range;
            hdr.ipv4.isValid(): exact;
            hdr.ipv4.tos: ternary;
        }
        actions = { set_kind; set_hash; send_copy; @defaultonly NoAction; }
        default_action = NoAction();
        size = 8;
    }

    action answer(bit<9> port) {
        standard.egress_spec = port;
    }
    table fixed {
        key = { hdr.ethernet.ethertype: exact; }
        actions = { answer; drop; }
        const default_action = drop();
        const entries = {
            0x9001: answer(2);
            0x9002: answer(3);
        }
    }

    apply {
        if (standard.checksum_error == 1 || standard.parser_error != error.NoError) {
            drop();
            seen.count(3);
        } else if (!hdr.ipv4.isValid()) {
            fixed.apply();
            seen.count(0);
        } else if (route.apply().hit) {
            seen.count(1);
            switch (classify.apply().action_run) {
                set_hash: {
                    if (meta.passes < 2) {
                        meta.passes = meta.passes + 1;
                        resubmit_preserving_field_list(1);
                    }
                }
                set_kind: {
                    last.write((bit<32>) meta.kind, meta.hash16 + 7);
                    last.read(meta.wide, (bit<32>) meta.kind);
                }
            }
        } else {
            seen.count(2);
        }
    }
}

control FeaturesEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    apply {
        hdr.ethernet.source = meta.kind ++ meta.passes ++ meta.hash16 ++ (bit<8>) standard.egress_rid
            ++ (bit<8>) standard.instance_type;
        hdr.ethernet.destination = standard.packet_length ++ meta.wide;
    }
}

control FeaturesDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.ethernet);
        packet.emit(hdr.ipv4);
    }
}

V1Switch(FeaturesParser(), Verify(), FeaturesIngress(), FeaturesEgress(), Update(), FeaturesDeparser()) main;
