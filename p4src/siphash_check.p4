// SPDX-License-Identifier: Apache-2.0
// Computes SipHash-2-4 of a message of up to 63 bytes with the same macros as flow_state.p4, so that they can be
// held against the published vectors on any target. The packet goes back out of the port it came in by.

#include <core.p4>
#include <v1model.p4>

#include "include/siphash.p4"

header ethernet_t {
    bit<48> destination;
    bit<48> source;
    bit<16> ethertype;
}

// `words` full message words, then `last` (what is left of the message and the length in the top byte).
header check_t {
    bit<64> key0;
    bit<64> key1;
    bit<64> words;
    bit<64> w0;
    bit<64> w1;
    bit<64> w2;
    bit<64> w3;
    bit<64> w4;
    bit<64> w5;
    bit<64> w6;
    bit<64> last;
    bit<64> result;
}

struct headers_t {
    ethernet_t ethernet;
    check_t check;
}

struct metadata_t {
    bit<64> v0;
    bit<64> v1;
    bit<64> v2;
    bit<64> v3;
}

parser CheckParser(packet_in packet, out headers_t hdr, inout metadata_t meta,
                   inout standard_metadata_t standard_metadata) {
    state start {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ethertype) {
            0x88B7: parse_check;
            default: accept;
        }
    }
    state parse_check {
        packet.extract(hdr.check);
        transition accept;
    }
}

control CheckIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    action begin() {
        SIP_INIT(hdr.check.key0, hdr.check.key1)
    }
    action finish() {
        SIP_FINISH(hdr.check.last, hdr.check.result)
        standard_metadata.egress_spec = standard_metadata.ingress_port;
    }
#define ADD_WORD(n) action add_##n() { SIP_WORD(hdr.check.w##n) }
    ADD_WORD(0) ADD_WORD(1) ADD_WORD(2) ADD_WORD(3) ADD_WORD(4) ADD_WORD(5) ADD_WORD(6)
#define ADD_IF_LONGER(n) if (hdr.check.words > n) { add_##n(); }
    apply {
        if (hdr.check.isValid()) {
            begin();
            ADD_IF_LONGER(0) ADD_IF_LONGER(1) ADD_IF_LONGER(2) ADD_IF_LONGER(3)
            ADD_IF_LONGER(4) ADD_IF_LONGER(5) ADD_IF_LONGER(6)
            finish();
        } else {
            mark_to_drop(standard_metadata);
        }
    }
}

control CheckEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    apply { }
}

control CheckDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.ethernet);
        packet.emit(hdr.check);
    }
}

control NoChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

V1Switch(CheckParser(), NoChecksum(), CheckIngress(), CheckEgress(), NoChecksum(), CheckDeparser()) main;
