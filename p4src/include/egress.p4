// SPDX-License-Identifier: Apache-2.0
// Egress keeps no state: four threads run it. It sends walking tokens round again and keeps floods off their own port.

#ifndef EGRESS_P4
#define EGRESS_P4

const bit<32> INSTANCE_REPLICATED = 5;

control SwitchEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    action walk_on() {
        hdr.packet_out.credit = hdr.packet_out.credit - 1;
        meta.now = (bit<32>) (standard_metadata.egress_global_timestamp >> 10);
    }
    action next_sequence() {
        hdr.packet_out.argument = hdr.packet_out.argument + 1;
    }
    apply {
        if (standard_metadata.instance_type == INSTANCE_INGRESS_CLONE && hdr.packet_out.isValid()) {
            walk_on();
            if (hdr.packet_out.kind == TOKEN_RESEND) {
                next_sequence();
            }
            recirculate_preserving_field_list(8w1);
        } else if (standard_metadata.instance_type == INSTANCE_REPLICATED
                && standard_metadata.egress_port == standard_metadata.ingress_port) {
            mark_to_drop(standard_metadata);
        }
    }
}

#endif
