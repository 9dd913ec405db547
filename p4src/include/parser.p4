// SPDX-License-Identifier: Apache-2.0
// Parser and deparser. A token comes from the CPU port or is recirculated by this program; nothing on a wire can
// be either, so an instance type and the port are its authentication.

#ifndef PARSER_P4
#define PARSER_P4

parser SwitchParser(packet_in packet, out headers_t hdr, inout metadata_t meta,
                    inout standard_metadata_t standard_metadata) {
    state start {
        transition select(standard_metadata.instance_type, standard_metadata.ingress_port) {
            (INSTANCE_RECIRCULATED, _): parse_token;
            (_, CPU_PORT): parse_token;
            default: parse_ethernet;
        }
    }
    state parse_token {
        packet.extract(hdr.packet_out);
        transition select(hdr.packet_out.kind) {
            TOKEN_FORWARD: accept;
            default: parse_padding;
        }
    }
    state parse_padding {
        packet.extract(hdr.padding);
        transition accept;
    }
    state parse_ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ethertype) {
            ETHERTYPE_IPV4: parse_ipv4;
            ETHERTYPE_SYNC: parse_sync;
            ETHERTYPE_MARKER: parse_marker;
            default: accept;
        }
    }
    state parse_sync {
        packet.extract(hdr.sync);
        packet.extract(hdr.body);
        transition accept;
    }
    state parse_marker {
        packet.extract(hdr.marker);
        transition accept;
    }
    // Ports are read from first fragments of TCP and UDP without IP options; anything else is forwarded uncounted.
    state parse_ipv4 {
        packet.extract(hdr.ipv4);
        transition select(hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.fragment_offset, hdr.ipv4.protocol) {
            (4, 5, 0, PROTOCOL_TCP): parse_ports;
            (4, 5, 0, PROTOCOL_UDP): parse_ports;
            default: accept;
        }
    }
    state parse_ports {
        packet.extract(hdr.ports);
        transition accept;
    }
}

control SwitchDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.packet_out);
        packet.emit(hdr.padding);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.sync);
        packet.emit(hdr.body);
        packet.emit(hdr.marker);
        packet.emit(hdr.ipv4);
        packet.emit(hdr.ports);
    }
}

control NoChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

#endif
