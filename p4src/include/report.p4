// SPDX-License-Identifier: Apache-2.0
// Answers to the controller, and the small acts behind them. Included inside a control.

action report(bit<8> state) {
    hdr.packet_in.setValid();
    hdr.packet_in.kind = hdr.packet_out.kind;
    hdr.packet_in.state = state;
    hdr.packet_in.round = 0;
    hdr.packet_in.session = hdr.packet_out.session;
    hdr.packet_in.count = 0;
    hdr.packet_in.links = 0;
    hdr.packet_in.detail = hdr.packet_out.argument;
    hdr.packet_in.digest = 0;
    hdr.packet_out.setInvalid();
    hdr.padding.setInvalid();
    standard_metadata.egress_spec = CPU_PORT;
}

action describe_outgoing() {
    hdr.packet_in.session = meta.out_session;
    hdr.packet_in.round = meta.round;
    hdr.packet_in.count = meta.sequence;
    hdr.packet_in.links = (bit<32>) meta.phase;
    hdr.packet_in.detail = meta.cursor ++ meta.undo;
    hdr.packet_in.digest = meta.previous;
}

action describe_incoming() {
    hdr.packet_in.session = meta.in_session;
    hdr.packet_in.round = (bit<16>) meta.mark;
    hdr.packet_in.count = meta.staged;
    hdr.packet_in.links = meta.links;
    hdr.packet_in.detail = meta.conflicts ++ meta.swept;
}

// Argument: which half of the bitmap (32), whose MAC goes into `digest` (32).
#define BITMAP_WORD(n) in_bitmap.read(hdr.body.w##n, meta.at); NEXT_CELL
action report_bitmap() {
    meta.at = 0;
    if (hdr.packet_out.argument[63:32] != 0) {
        meta.at = 64;
    }
    hdr.body.setValid();
    EACH_WORD(BITMAP_WORD)
    meta.at = hdr.packet_out.argument[31:0] & (SEQUENCES - 1);
    in_mac.read(meta.digest, meta.at);
    report(STATE_OK);
    hdr.packet_in.digest = meta.digest;
}

action report_marker() {
    hdr.packet_in.setValid();
    hdr.packet_in.kind = REPORT_MARKER;
    hdr.packet_in.state = STATE_OK;
    hdr.packet_in.round = (bit<16>) standard_metadata.ingress_port;
    hdr.packet_in.session = hdr.marker.session;
    hdr.packet_in.count = 0;
    hdr.packet_in.links = 0;
    hdr.packet_in.detail = hdr.marker.token;
    hdr.packet_in.digest = 0;
    hdr.ethernet.setInvalid();
    hdr.marker.setInvalid();
    standard_metadata.egress_spec = CPU_PORT;
}

action set_verdict() {
    flow_key.write(meta.index, meta.key);
    flow_verdict.write(meta.index, hdr.packet_out.flags);
    if (meta.entry_key == 0) {
        flow_seen.write(meta.index, meta.now);
    }
    meta.at = meta.index >> 4;
    flow_mark.write(meta.at, 3);
}

action close_outgoing() {
    meta.phase = PHASE_IDLE;
    out_phase.write(0, PHASE_IDLE);
    out_session.write(0, 0);
    out_finished.write(0, meta.out_session);
}

action finish_incoming() {
    in_finished.write(0, meta.in_session);
    in_session.write(0, 0);
}
