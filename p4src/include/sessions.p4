// SPDX-License-Identifier: Apache-2.0
// Tables that say which sessions this switch takes part in, and with which keys. Included inside a control.

action use_session(bit<64> key0, bit<64> key1, bit<120> poly, bit<16> suite, bit<64> nonce,
                   bit<16> source, bit<16> destination, port_t port) {
    meta.known = 1;
    meta.key0 = key0;
    meta.key1 = key1;
    meta.poly = (bit<320>) poly;
    meta.suite = suite;
    meta.nonce = nonce;
    meta.source = source;
    meta.destination = destination;
    meta.port = port;
}

// Source: `port` is the fabric port that the session's packets leave by.
table sync_out {
    key = { hdr.packet_out.session: exact @name("session"); }
    actions = { use_session; NoAction; }
    default_action = NoAction();
    size = 64;
}

// Destination: packets of a session are heard on one port and nowhere else (`port` repeats it).
table sync_in {
    key = {
        standard_metadata.ingress_port: exact @name("port");
        hdr.sync.session: exact @name("session");
    }
    actions = { use_session; NoAction; }
    default_action = NoAction();
    size = 64;
}

action set_mark(bit<8> mark) {
    meta.mark = mark;
}

// One MODIFY of the entry of a session commits or discards all that it staged.
table staging_mark {
    key = { meta.in_session: exact @name("session"); }
    actions = { set_mark; NoAction; }
    default_action = NoAction();
    size = 64;
}

action expect_marker() {
    meta.known = 1;
}

// A marker is believed once its secret token is expected; it is sent behind the last packet of what moved away.
table markers {
    key = {
        hdr.marker.session: exact @name("session");
        hdr.marker.token: exact @name("token");
    }
    actions = { expect_marker; NoAction; }
    default_action = NoAction();
    size = 64;
}
