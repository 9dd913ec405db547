# SPDX-License-Identifier: Apache-2.0
"""Ryu or OS-Ken behind one set of names: all other code imports the framework's things from here.

Ryu is used where it is installed (Python <= 3.11), else OS-Ken, its maintained fork with the same interfaces. The
environment variable ``BATON_FRAMEWORK`` (``ryu`` or ``os_ken``) decides otherwise; ``python -m controller.manager
--framework`` sets it. Both cannot live in one process: whichever is loaded already (``ryu-manager``) is kept.
Ryu runs handlers in eventlet's green threads, OS-Ken in native ones; ``threads.py`` hides the difference.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from controller.core.errors import BatonError

FRAMEWORKS = ("ryu", "os_ken")
ENVIRONMENT = "BATON_FRAMEWORK"


class FrameworkError(BatonError):
    """Neither framework can be used, or the one asked for is not there; the text says the mend."""


def choose() -> str:
    """Return ``ryu`` or ``os_ken``.

    Raises FrameworkError when none is installed, the one asked for is missing, or the other one is loaded already.
    """
    wanted = os.environ.get(ENVIRONMENT, "")
    if wanted and wanted not in FRAMEWORKS:
        raise FrameworkError(f"{ENVIRONMENT}={wanted}: it must be one of {', '.join(FRAMEWORKS)}")
    loaded = [name for name in FRAMEWORKS if f"{name}.base.app_manager" in sys.modules]
    if loaded:
        if wanted and wanted not in loaded:
            raise FrameworkError(f"{ENVIRONMENT}={wanted}, but {loaded[0]} is running already: unset the variable")
        return loaded[0]
    installed = [name for name in FRAMEWORKS if find_spec(name)]
    if wanted:
        if wanted not in installed:
            raise FrameworkError(f"{wanted} is not installed in this Python: run 'make setup'")
        return wanted
    if not installed:
        raise FrameworkError("neither Ryu nor OS-Ken is installed in this Python: run 'make setup'")
    return installed[0]


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
ofproto_v1_3_parser: Any = _load("ofproto.ofproto_v1_3_parser")
ofproto_v1_4_parser: Any = _load("ofproto.ofproto_v1_4_parser")
ofproto_v1_5_parser: Any = _load("ofproto.ofproto_v1_5_parser")

_handler: Any = _load("controller.handler")
HANDSHAKE_DISPATCHER: str = _handler.HANDSHAKE_DISPATCHER
CONFIG_DISPATCHER: str = _handler.CONFIG_DISPATCHER
MAIN_DISPATCHER: str = _handler.MAIN_DISPATCHER
DEAD_DISPATCHER: str = _handler.DEAD_DISPATCHER
set_ev_cls: Any = _handler.set_ev_cls

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
EventOFPBundleCtrlMsg: Any = ofp_event.EventOFPBundleCtrlMsg

OFP_VERSION = int(ofproto_v1_4.OFP_VERSION)
"""OpenFlow 1.4 is spoken: the first version with bundles."""
