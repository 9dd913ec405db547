# SPDX-License-Identifier: Apache-2.0
"""Ryu or OS-Ken behind one set of names: all other code imports the framework's things from here.

``choice.py`` says which. Ryu runs handlers in eventlet's green threads, OS-Ken in native ones; ``threads.py`` hides the
difference.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from controller.openflow.choice import choose

Handler = TypeVar("Handler", bound=Callable[..., Any])

NAME = choose()


def _load(path: str) -> ModuleType:
    """Import a module of the chosen framework."""
    return importlib.import_module(f"{NAME}.{path}")


hub: Any = _load("lib.hub")
cfg: Any = _load("cfg")
CONF: Any = cfg.CONF
app_manager: Any = _load("base.app_manager")
App: Any = app_manager.RyuApp if NAME == "ryu" else app_manager.OSKenApp
openflow_controller: Any = _load("controller.controller")
ofp_event: Any = _load("controller.ofp_event")
ofproto_parser: Any = _load("ofproto.ofproto_parser")
ofproto_v1_3: Any = _load("ofproto.ofproto_v1_3")
ofproto_v1_4: Any = _load("ofproto.ofproto_v1_4")
ofproto_v1_5: Any = _load("ofproto.ofproto_v1_5")
ofproto_v1_0_parser: Any = _load("ofproto.ofproto_v1_0_parser")
ofproto_v1_3_parser: Any = _load("ofproto.ofproto_v1_3_parser")
ofproto_v1_4_parser: Any = _load("ofproto.ofproto_v1_4_parser")
ofproto_v1_5_parser: Any = _load("ofproto.ofproto_v1_5_parser")

_handler: Any = _load("controller.handler")
HANDSHAKE_DISPATCHER: str = _handler.HANDSHAKE_DISPATCHER
CONFIG_DISPATCHER: str = _handler.CONFIG_DISPATCHER
MAIN_DISPATCHER: str = _handler.MAIN_DISPATCHER
DEAD_DISPATCHER: str = _handler.DEAD_DISPATCHER
set_ev_cls: Callable[..., Callable[[Handler], Handler]] = _handler.set_ev_cls

EventBase: Any = _load("controller.event").EventBase
EventOFPStateChange: Any = ofp_event.EventOFPStateChange
EventOFPSwitchFeatures: Any = ofp_event.EventOFPSwitchFeatures
EventOFPPacketIn: Any = ofp_event.EventOFPPacketIn
EventOFPPortStatus: Any = ofp_event.EventOFPPortStatus
EventOFPPortDescStatsReply: Any = ofp_event.EventOFPPortDescStatsReply
EventOFPErrorMsg: Any = ofp_event.EventOFPErrorMsg
EventOFPBarrierReply: Any = ofp_event.EventOFPBarrierReply
EventOFPFlowRemoved: Any = ofp_event.EventOFPFlowRemoved
EventOFPFlowStatsReply: Any = ofp_event.EventOFPFlowStatsReply
EventOFPRoleReply: Any = ofp_event.EventOFPRoleReply
EventOFPRoleStatus: Any = ofp_event.EventOFPRoleStatus
EventOFPBundleCtrlMsg: Any = ofp_event.EventOFPBundleCtrlMsg

OFP_VERSION = int(ofproto_v1_4.OFP_VERSION)
"""OpenFlow 1.4 is spoken: the first version with bundles."""
