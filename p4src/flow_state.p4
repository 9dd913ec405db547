// SPDX-License-Identifier: Apache-2.0
// A stateful switch whose per-flow state can be shipped to another switch: securely, completely, once.
//
// docs/p4sync-protocol.md is the reference of headers, tables, registers and of a session's life.
// Compile with `python -m p4src.compile`: without the option it gives, p4c's LocalCopyPropagation expands chained
// rotations exponentially.

#include <core.p4>
#include <v1model.p4>

#include "include/lanes.p4"
#include "include/headers.p4"
#include "include/metadata.p4"
#include "include/siphash.p4"
#include "include/parser.p4"

struct collision_t {
    bit<64> key;
    bit<64> resident;
}

control SwitchIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
#include "include/sessions.p4"
#include "include/state.p4"
#include "include/mac.p4"
#include "include/sync_source.p4"
#include "include/sync_destination.p4"
#include "include/report.p4"

// One record of a packet into live state, by the action that finds it.
#define MERGE_ONE(find) \
    find(); \
    if (meta.record_valid == 1) { \
        merge_record(); \
        if (meta.record_fits == 0) { events.count(EVENT_MERGE_COLLISION); } \
    }
#define RESTORE_ONE(j, a, b, c, d) MERGE_ONE(record_from_body_##j)
#define SWEEP_ONE(j, a, b, c, d) MERGE_ONE(record_from_stage_##j)
#define STAGE_ONE(j, a, b, c, d) if (hdr.body.w##a != 0) { stage_record_##j(); }

    apply {
        if (standard_metadata.instance_type != INSTANCE_RECIRCULATED) {    // bmv2 stamps a packet when it comes in, not again
            meta.now = (bit<32>) (standard_metadata.ingress_global_timestamp >> 10);
        }
        in_session.read(meta.in_session, 0);
        if (meta.in_session != 0) {
            staging_mark.apply();
        }

        // Which entry is touched, by a counted packet or by a token that names a flow.
        if (hdr.packet_out.isValid()) {
            meta.token_kind = hdr.packet_out.kind;
            meta.credit = hdr.packet_out.credit;
            if (meta.token_kind == TOKEN_FLOW || meta.token_kind == TOKEN_VERDICT || meta.token_kind == TOKEN_READ_FLOW) {
                meta.key = hdr.packet_out.argument;
                meta.client = hdr.packet_out.argument[63:32];
            }
        } else if (hdr.ports.isValid()) {
            service_by_destination.apply();
            if (meta.service == 0) {
                service_by_source.apply();
            }
        }

        // First touch: what was staged for the entry and committed since is folded before anything reads it.
        if (meta.key != 0) {
            locate();
            if (meta.in_session != 0) {
                staged_flow.read(meta.staged_flow, meta.index);
                staged_client.read(meta.staged_client, meta.client_index);
                if (CELL_SESSION(meta.staged_flow) == meta.in_session) {
                    if (meta.mark == MARK_COMMITTED) {
                        record_from_cell();
                        meta.record_index = meta.index;
                        merge_record();
                        staged_flow.write(meta.index, 0);
                        if (meta.record_fits == 1) {
                            events.count(EVENT_FOLDED);
                        } else {
                            events.count(EVENT_MERGE_COLLISION);
                        }
                    } else if (meta.mark == MARK_OPEN && CELL_KEY(meta.staged_flow) != meta.key) {
                        meta.reserved = 1;    // an empty entry is kept for the flow that is on its way
                    }
                }
                if (meta.staged_client[63:32] == meta.in_session && meta.mark == MARK_COMMITTED) {
                    fold_client();
                }
            }
        }

        if (hdr.packet_out.isValid()) {
            if (meta.token_kind == TOKEN_FORWARD) {
                standard_metadata.egress_spec = (port_t) hdr.packet_out.port;
                hdr.packet_out.setInvalid();
            } else if (!hdr.padding.isValid()) {
                report(STATE_REFUSED);
            } else if (meta.token_kind <= TOKEN_REPORT_OUT) {
                load_outgoing();
                sync_out.apply();
                if (meta.token_kind == TOKEN_REPORT_OUT) {
                    report(STATE_OK);
                } else if (meta.token_kind == TOKEN_OPEN_OUT) {
                    if (meta.known == 0) {
                        report(STATE_UNKNOWN);
                    } else if (hdr.packet_out.session == 0 || hdr.packet_out.session == meta.finished) {
                        report(STATE_REFUSED);
                    } else if (meta.out_session == hdr.packet_out.session) {
                        report(STATE_OK);
                    } else if (meta.phase != PHASE_IDLE || meta.mark == MARK_COMMITTED) {
                        report(STATE_BUSY);    // also while an incoming session is not swept: its entries are not live yet
                    } else {
                        open_outgoing();
                        report(STATE_OK);
                    }
                } else if (meta.phase == PHASE_IDLE || meta.out_session != hdr.packet_out.session) {
                    report(STATE_UNKNOWN);
                } else if (meta.token_kind == TOKEN_ROUND) {
                    if (meta.phase != PHASE_OPEN) {
                        report(STATE_REFUSED);
                    } else if (hdr.packet_out.credit == meta.round) {
                        report(STATE_OK);
                    } else if (meta.cursor <= meta.last || hdr.packet_out.credit != meta.round + 1
                            || hdr.packet_out.argument[63:56] > ARRAY_FLOWS || hdr.packet_out.argument[30:24] != 0
                            || hdr.packet_out.argument[6:0] != 0x7f || hdr.packet_out.argument[23:16] != 0
                            || hdr.packet_out.argument[47:40] != 0) {
                        report(STATE_REFUSED);
                    } else {
                        start_round();
                        report(STATE_OK);
                    }
                } else if (meta.token_kind == TOKEN_WALK) {
                    load_walk();
                    if (meta.phase != PHASE_OPEN || meta.known == 0) {
                        report(STATE_REFUSED);
                    } else if (meta.cursor > meta.last) {
                        report(STATE_DONE);
                    } else if (meta.sequence >= SEQUENCES) {
                        report(STATE_FULL);
                    } else {
                        meta.again = 1;
                        if (meta.array == ARRAY_CLIENTS) {
                            scan_clients();
                        } else {
                            scan_flows();
                        }
                        if (meta.block_mark == 0x80 || meta.base > meta.last) {
                            drop();    // nothing to ship here
                        } else if (meta.array == ARRAY_CLIENTS) {
                            clean_clients_mark();
                            gather_clients();
                            clear_clients();
                            meta.count = (bit<16>) CLIENTS_PER_PACKET;
                            meta.mac_needed = 1;
                        } else {
                            clean_flows_mark();
                            gather_flows();
                            clear_flows();
                            meta.count = (bit<16>) FLOWS_PER_PACKET;
                            meta.mac_needed = 1;
                        }
                    }
                } else if (meta.token_kind == TOKEN_FLOW) {
                    if (meta.phase != PHASE_OPEN || meta.known == 0) {
                        report(STATE_REFUSED);
                    } else if (meta.sequence >= SEQUENCES) {
                        report(STATE_FULL);
                    } else if (meta.key == 0 || meta.entry_key != meta.key) {
                        report(STATE_ABSENT);
                    } else {
                        meta.base = meta.index;
                        meta.array = ARRAY_FLOWS;
                        gather_one_flow();
                        clear_one_flow();
                        meta.count = 1;
                        meta.mac_needed = 1;
                    }
                } else if (meta.token_kind == TOKEN_RESEND) {
                    if (meta.known == 0 || hdr.packet_out.argument >= (bit<64>) meta.sequence) {
                        report(STATE_REFUSED);
                    } else {
                        meta.again = 1;
                        meta.sequence = hdr.packet_out.argument[31:0];
                        load_packet();
                        make_headers();
                        load_macs();
                    }
                } else if (meta.token_kind == TOKEN_RESTORE) {
                    if (meta.phase == PHASE_OPEN) {
                        meta.phase = PHASE_RESTORING;
                        out_phase.write(0, PHASE_RESTORING);
                    }
                    if (meta.phase != PHASE_RESTORING) {
                        report(STATE_REFUSED);
                    } else if (meta.undo >= meta.sequence) {
                        close_outgoing();
                        report(STATE_DONE);
                    } else {
                        meta.again = 1;
                        meta.sequence = meta.undo;
                        out_undo.write(0, meta.undo + 1);
                        load_packet();
                        if (meta.array == ARRAY_CLIENTS) {
                            restore_clients();
                        } else {
                            EACH_RECORD(RESTORE_ONE)
                        }
                        drop();
                    }
                } else if (meta.token_kind == TOKEN_RELEASE) {
                    if (meta.phase == PHASE_OPEN) {
                        meta.phase = PHASE_RELEASING;
                        out_phase.write(0, PHASE_RELEASING);
                    }
                    if (meta.phase != PHASE_RELEASING) {
                        report(STATE_REFUSED);
                    } else if (meta.undo >= meta.sequence || hdr.packet_out.flags == 1) {
                        close_outgoing();
                        report(STATE_DONE);
                    } else {
                        meta.again = 1;
                        meta.sequence = meta.undo;
                        out_undo.write(0, meta.undo + 1);
                        load_packet();
                        if (meta.array == ARRAY_FLOWS) {
                            release_flows();
                        }
                        drop();
                    }
                } else {
                    report(STATE_REFUSED);
                }
                if (meta.mac_needed == 1) {
                    make_headers();
                }
                if (hdr.packet_in.isValid()) {
                    describe_outgoing();
                }
            } else if (meta.token_kind <= TOKEN_SWEEP) {
                load_incoming();
                if (meta.token_kind == TOKEN_REPORT_IN) {
                    report_bitmap();
                } else if (meta.token_kind == TOKEN_OPEN_IN) {
                    if (hdr.packet_out.session == 0 || hdr.packet_out.session == meta.finished) {
                        report(STATE_REFUSED);
                    } else if (hdr.packet_out.session == meta.in_session) {
                        report(STATE_OK);
                    } else if (meta.mark == MARK_OPEN || meta.mark == MARK_COMMITTED) {
                        report(STATE_BUSY);
                    } else {
                        open_incoming();
                        report(STATE_OK);
                    }
                } else if (hdr.packet_out.session == meta.finished) {
                    report(STATE_DONE);
                } else if (hdr.packet_out.session != meta.in_session) {
                    report(STATE_UNKNOWN);
                } else if (meta.mark != MARK_COMMITTED) {
                    report(STATE_REFUSED);
                } else if (meta.swept >= meta.staged) {
                    finish_incoming();
                    report(STATE_DONE);
                } else {
                    meta.again = 1;
                    next_block();
                    if (meta.array == ARRAY_CLIENTS) {
                        fold_clients();
                    } else {
                        EACH_RECORD(SWEEP_ONE)
                    }
                    drop();
                }
                if (hdr.packet_in.isValid()) {
                    describe_incoming();
                }
            } else if (meta.token_kind == TOKEN_VERDICT) {
                if (meta.key == 0) {
                    report(STATE_REFUSED);
                } else if (meta.reserved == 1 || (meta.entry_key != 0 && meta.entry_key != meta.key)) {
                    report(STATE_COLLISION);
                } else {
                    set_verdict();
                    report(STATE_OK);
                }
            } else if (meta.token_kind == TOKEN_READ_FLOW) {
                meta.base = meta.index;
                gather_one_flow();
                if (meta.key == 0 || meta.entry_key != meta.key) {
                    report(STATE_ABSENT);
                } else {
                    report(STATE_OK);
                }
            } else if (meta.token_kind == TOKEN_READ_BLOCK) {
                meta.base = hdr.packet_out.argument[31:0] & 0xff80;
                if (hdr.packet_out.argument[63:56] == ARRAY_CLIENTS) {
                    gather_clients();
                } else {
                    meta.base = hdr.packet_out.argument[31:0] & 0xfff0;
                    gather_flows();
                }
                report(STATE_OK);
            } else {
                report(STATE_REFUSED);
            }
            if (hdr.packet_in.isValid() && hdr.packet_in.state == STATE_REFUSED) {
                events.count(EVENT_TOKEN_REFUSED);
            }
        } else if (hdr.ethernet.ethertype == ETHERTYPE_SYNC) {
            drop();
            if (!hdr.body.isValid()) {
                events.count(EVENT_SYNC_MALFORMED);
            } else {
                sync_in.apply();
                if (meta.known == 0) {
                    events.count(EVENT_SYNC_UNEXPECTED);
                } else if (hdr.sync.version != SYNC_VERSION || standard_metadata.packet_length != SYNC_LENGTH
                        || hdr.sync.array > ARRAY_FLOWS || hdr.sync.sequence >= SEQUENCES || hdr.sync.base >= ENTRIES
                        || (hdr.sync.array == ARRAY_CLIENTS && hdr.sync.base[6:0] != 0)) {
                    events.count(EVENT_SYNC_MALFORMED);
                } else if (hdr.sync.nonce != meta.nonce || hdr.sync.source != meta.source
                        || hdr.sync.destination != meta.destination || hdr.sync.suite != meta.suite) {
                    events.count(EVENT_SYNC_FOREIGN);
                } else if (hdr.sync.session != meta.in_session || meta.mark != MARK_OPEN) {
                    events.count(EVENT_SYNC_CLOSED);
                } else {
                    meta.mac_needed = 1;
                }
            }
        } else if (hdr.ethernet.ethertype == ETHERTYPE_MARKER) {
            drop();
            if (hdr.marker.isValid()) {
                markers.apply();
            }
            if (meta.known == 1) {
                report_marker();
            } else {
                events.count(EVENT_MARKER_UNEXPECTED);
            }
        } else {
            forward.apply();
            if (meta.key != 0) {
                count_client();
                if (meta.entry_key == meta.key || (meta.entry_key == 0 && meta.reserved == 0)) {
                    count_flow();
                    if (meta.entry_verdict == VERDICT_DROP) {
                        drop();
                        events.count(EVENT_VERDICT_DROP);
                    }
                } else {
                    events.count(EVENT_FLOW_COLLISION);
                    digest<collision_t>(1, { meta.key, meta.entry_key });
                }
            }
        }

        if (meta.mac_needed == 1) {
#ifndef UNSECURED
            mac_header();
            if (meta.suite == SUITE_SIPHASH) {
                mac_body();
            } else {
                mac_compressed_body();
            }
#endif
            if (meta.token_kind != 0) {
                store_packet();
            } else if (hdr.sync.mac != meta.digest) {
                events.count(EVENT_SYNC_FORGED);
            } else {
                check_duplicate();
                if (meta.duplicate == 1) {
                    events.count(EVENT_SYNC_DUPLICATE);
                } else {
                    load_incoming();
                    link_packet();
                    if (hdr.sync.array == ARRAY_CLIENTS) {
                        stage_clients();
                    } else {
                        EACH_RECORD(STAGE_ONE)
                        save_conflicts();
                    }
                }
            }
        }

        // The clone is the token as it came in; egress recirculates it with one credit less.
        if (meta.again == 1 && meta.credit > 1) {
            clone_preserving_field_list(CloneType.I2E, CLONE_SESSION, 8w1);
        }
    }
}

#include "include/egress.p4"

V1Switch(SwitchParser(), NoChecksum(), SwitchIngress(), SwitchEgress(), NoChecksum(), SwitchDeparser()) main;
