// SPDX-License-Identifier: Apache-2.0
// The yardstick: flow_state.p4 in every respect, with packets of the same size, but nothing is authenticated (the MAC
// is 0 in every packet, and anybody may send one). Never use it for anything but the comparison.

#define UNSECURED
#include "flow_state.p4"
