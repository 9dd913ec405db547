# SPDX-License-Identifier: Apache-2.0
"""Settings: read from TOML, checked once at start; every complaint says where it stands and how to mend it."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from controller.config_complaints import complain
from controller.core import policy
from controller.core.errors import ConfigError
from controller.core.events import Verdict
from controller.core.policy import Policy
from controller.core.segment import Endpoint

Seconds = Annotated[float, Field(strict=True, gt=0, le=86_400, allow_inf_nan=False)]
Number = Annotated[int, Field(strict=True)]
Name = Annotated[str, Field(min_length=1)]
MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
DATAPATH = re.compile(r"(0x)?[0-9a-f]{1,16}")
UINT32 = 0xFFFFFFFF
TAKEN = ("bus.sock", "openflow.sock")
"""Names in the run directory that the controller listens on."""


class Section(BaseModel):
    """Base of all sections: unknown keys are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
    """A server process that can hold connections; ``mac`` is learned by ARP where it is not given."""

    address: str
    port: Number = Field(ge=1, le=65_535)
    mac: str | None = None
    banner: Literal["refuse", "discard"] = "refuse"
    """What to do when this server, as a target, speaks first: refuse it, or discard what it said."""

    @field_validator("address")
    @classmethod
    def _canonical(cls, value: str) -> str:
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            raise ValueError(f"{value!r} is no IPv4 or IPv6 address (without prefix length or port)") from None
        if address.is_multicast or address.is_unspecified or address.is_loopback:
            raise ValueError(f"{value} is no address that clients reach through a switch; give the server's own")
        return str(address)

    @field_validator("mac")
    @classmethod
    def _well_formed(cls, value: str | None) -> str | None:
        if value is not None and not MAC.fullmatch(value.lower()):
            raise ValueError(f"{value!r} is no MAC address such as 02:00:00:00:00:01; leave it out and it is learned")
        return value and value.lower()

    @property
    def is_ipv6(self) -> bool:
        """Tell the address family."""
        return ":" in self.address


class Service(Section):
    """What clients dial: the origin's address and port, and how its connections are judged."""

    name: Name
    origin: str
    mode: Literal["gate", "observe"] = "gate"
    verdict_timeout: Seconds = 0.1
    default_verdict: Literal["forward", "drop"] = "forward"
    handshake_timeout: Seconds = 0.15
    """How long the target may take from the SYN to the answered probe before the origin serves."""
    idle_timeout: Number = Field(default=7_440, ge=60, le=65_535)
    """Seconds without a packet after which an established connection is forgotten (RFC 5382 REQ-5)."""
    mirror_bytes: Number = Field(default=1 << 20, ge=0)
    """Observe mode: about how many bytes of a connection the analyser gets to see; 0 for all."""
    cut_policy: Literal["now", "quiet", "request"] = "now"
    """Observe mode: cut amid whatever is going on, when nothing is under way, or before the last request."""
    quiet_timeout: Seconds = 5.0
    """For how long a quiet moment is waited for before the migration is given up."""
    allow_torn_response: Annotated[bool, Field(strict=True)] = False
    """Policy request: move a request although its answer has begun; the client reads that beginning, then all of it."""
    hold_for_state: Literal["stay", "go", "off"] = "stay"
    """With apps/p4sync.py, the cutover waits for the state in P4 switches; without it, stay or go; or do not wait."""
    state_timeout: Seconds = 0.3


class Rule(Section):
    """Which alerts lead to which verdict; every key given must match the alert."""

    sid: Annotated[int, Field(strict=True, ge=1, le=UINT32)] | None = None
    msg: str | None = None
    classtype: str | None = None
    verdict: Verdict
    to: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Rule:
        if self.sid is None and self.msg is None and self.classtype is None:
            raise ValueError("a rule needs at least one of sid, msg, classtype to match alerts by")
        if self.verdict is Verdict.MIGRATE and self.to is None:
            raise ValueError("verdict migrate needs `to`: the name of the server to migrate to")
        if self.verdict is not Verdict.MIGRATE and self.to is not None:
            raise ValueError(f"`to` goes with verdict migrate only, not with {self.verdict.value}")
        return self


class Analyser(Section):
    """Where copies of packets go and where alerts come from (socket paths are relative to the run directory)."""

    port: str | None = "ids0"
    eve_socket: Name = "eve.sock"
    snort_socket: Name = "snort_alert"

    @model_validator(mode="after")
    def _apart(self) -> Analyser:
        if self.eve_socket == self.snort_socket:
            raise ValueError(f"eve_socket and snort_socket are both {self.eve_socket!r}; give each its own path")
        for path in (self.eve_socket, self.snort_socket):
            if path in TAKEN:
                raise ValueError(f"{path} is a socket of the controller's own; choose another name")
        return self


class Limits(Section):
    """Bounds on what a stranger can make the controller keep or do."""

    connections: Number = Field(default=200_000, ge=1)
    half_open: Number = Field(default=4_096, ge=1)
    held_bytes: Number = Field(default=262_144, ge=1_460)
    """Most bytes of one connection held while its verdict is awaited."""
    syn_rate: Number = Field(default=5_000, ge=1, le=UINT32)
    """SYNs per second that a switch hands to the controller; the rest are dropped, clients try again."""


class Switches(Section):
    """Which of several switches take connections in hand; the others only forward."""

    rewriting: tuple[str, ...] = ()
    """Datapath ids in hexadecimal; none: the first switch that connects."""

    @field_validator("rewriting", mode="before")
    @classmethod
    def _ids(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError(f'{value!r} is no list of datapath ids, as in rewriting = ["0000000000000001"]')
        for text in value:
            if not isinstance(text, str) or not DATAPATH.fullmatch(text.lower()):
                raise ValueError(
                    f"{text!r} is no datapath id such as 0000000000000001: 'ovs-vsctl get bridge NAME datapath_id'"
                    " prints a switch's"
                )
        return value


class Standby(Section):
    """Two controllers share the switches, one as a standby (docs/operating.md): where they agree who is master."""

    directory: Name
    lease: Seconds = 3.0
    """Seconds without a word after which a master that lives, but hangs, is deposed."""


class P4Switch(Section):
    """A P4 switch: which server it stands before, and where its agent listens (relative to the run directory)."""

    server: str
    control: str | None = None
    port: str | None = None
    """The Open vSwitch port that leads to it: markers behind the last packets go there (else `settle` is waited)."""


class P4Sync(Section):
    """P4 switches by name, and the number that each service has in all of them (docs/p4sync.md)."""

    switches: dict[Name, P4Switch] = {}
    services: dict[str, Annotated[int, Field(ge=1, le=65_535)]] = {}
    settle: Seconds = 0.2
    """Seconds after a cutover until the old switch has seen the last packets that were on their way."""


class Settings(Section):
    """The whole configuration."""

    analyser: Analyser = Analyser()
    limits: Limits = Limits()
    servers: dict[Name, Server] = Field(min_length=1)
    services: tuple[Service, ...] = Field(min_length=1)
    rules: tuple[Rule, ...] = ()
    switches: Switches = Switches()
    standby: Standby | None = None
    p4sync: P4Sync = P4Sync()

    @model_validator(mode="after")
    def _switches_consistent(self) -> Settings:
        before: dict[str, str] = {}
        for name, switch in self.p4sync.switches.items():
            if switch.server not in self.servers:
                known = ", ".join(sorted(self.servers))
                raise ValueError(f"p4sync.switches.{name}: {switch.server!r} is no server (known: {known})")
            other = before.setdefault(switch.server, name)
            if other != name:
                raise ValueError(f"p4sync: switches {other} and {name} stand before the same server; remove one")
        numbers: dict[int, str] = {}
        for service, number in self.p4sync.services.items():
            if service not in {one.name for one in self.services}:
                raise ValueError(f"p4sync.services: {service!r} is no service; name one of [[services]]")
            other = numbers.setdefault(number, service)
            if other != service:
                raise ValueError(f"p4sync.services: {other} and {service} have the same number; give each its own")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        known = ", ".join(sorted(self.servers))
        dialled: dict[tuple[str, int], str] = {}
        for service in self.services:
            if service.origin not in self.servers:
                raise ValueError(f"service {service.name}: origin {service.origin!r} is no server (known: {known})")
            origin = self.servers[service.origin]
            where = (origin.address, origin.port)
            if where in dialled:
                raise ValueError(
                    f"services {dialled[where]} and {service.name} overlap: both are dialled at"
                    f" {where[0]}:{where[1]}; give one another origin"
                )
            dialled[where] = service.name
        names = [service.name for service in self.services]
        if len(set(names)) != len(names):
            raise ValueError("two services have the same name; give each its own")
        places: dict[tuple[str, int], str] = {}
        for name, server in self.servers.items():
            other = places.setdefault((server.address, server.port), name)
            if other != name:
                raise ValueError(f"servers {other} and {name} have the same address and port; remove one")
        families = {self.servers[service.origin].is_ipv6 for service in self.services}
        first: dict[tuple[int | None, str | None, str | None], int] = {}
        for number, rule in enumerate(self.rules, start=1):
            earlier = first.setdefault((rule.sid, rule.msg, rule.classtype), number)
            if earlier != number:
                raise ValueError(f"rules {earlier} and {number} match the same alerts; remove one (the first counts)")
            if rule.to is None:
                continue
            if rule.to not in self.servers:
                raise ValueError(f"rule {number} migrates to {rule.to!r}, which is no server (known: {known})")
            if self.servers[rule.to].is_ipv6 not in families:
                raise ValueError(
                    f"rule {number} migrates to {rule.to}, which has an address of the other IP version than every"
                    " service; give it one that clients can be translated to"
                )
        return self


SECTIONS = (Settings, Analyser, Limits, Server, Service, Rule, Switches, Standby)
KEYS = {key for section in SECTIONS for key in section.model_fields}


def run_dir() -> Path:
    """Return the private directory of sockets and the journal: $BATON_RUN_DIR, else one of the user's own."""
    chosen = os.environ.get("BATON_RUN_DIR")
    if chosen:
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/run/baton")
    return Path(os.environ.get("XDG_RUNTIME_DIR", f"/tmp/baton-{os.geteuid()}")) / "baton"


def make_run_dir() -> Path:
    """Create the run directory with mode 0700 if need be and return it.

    Raises ConfigError where it belongs to somebody else or lets others in.
    """
    path = run_dir()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise ConfigError(
            f"cannot use the run directory {path}: {error.strerror}; set BATON_RUN_DIR to a directory of yours"
        ) from error
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ConfigError(f"the run directory {path} must be yours alone; `chmod 700 {path}` or set BATON_RUN_DIR")
    return path


def alert_dir(settings: Settings) -> Path:
    """Return what the sockets of alerts are relative to: the run directory, or the one that two controllers share."""
    return run_dir() if settings.standby is None else Path(settings.standby.directory)


def config_path() -> Path:
    """Return which file holds the settings: $BATON_CONFIG, else ./baton.toml, else the one beside the package."""
    chosen = os.environ.get("BATON_CONFIG")
    if chosen:
        return Path(chosen)
    here = Path("baton.toml")
    return here if here.exists() else Path(__file__).resolve().parent.parent / "baton.toml"


def load(path: Path | None = None) -> Settings:
    """Read and check the settings; raises ConfigError with file, key and mend."""
    path = path or config_path()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; write one (see docs/configuration.md) or set BATON_CONFIG"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {complain(error.errors(), KEYS)}") from error


def policy_of(settings: Settings) -> Policy:
    """Return the settings as the plain values that the core works with."""
    servers = {
        name: policy.Server(name, Endpoint(server.address, server.port), server.mac, server.banner == "discard")
        for name, server in settings.servers.items()
    }
    return Policy(
        servers=servers,
        services=tuple(
            policy.Service(
                name=service.name,
                origin=servers[service.origin],
                gated=service.mode == "gate",
                verdict_timeout=service.verdict_timeout,
                default_verdict=Verdict(service.default_verdict),
                handshake_timeout=service.handshake_timeout,
                mirror_bytes=service.mirror_bytes,
                idle_timeout=service.idle_timeout,
                cut_policy=policy.CutPolicy(service.cut_policy),
                quiet_timeout=service.quiet_timeout,
                allow_torn_response=service.allow_torn_response,
                hold_for_state=policy.Hold(service.hold_for_state),
                state_timeout=service.state_timeout,
            )
            for service in settings.services
        ),
        rules=tuple(policy.Rule(rule.verdict, rule.to, rule.sid, rule.msg, rule.classtype) for rule in settings.rules),
        analyser_port=settings.analyser.port,
        limits=policy.Limits(**settings.limits.model_dump()),
        rewriting=frozenset(int(text, 16) for text in settings.switches.rewriting),
    )


def agent_socket(settings: Settings, switch: str) -> Path:
    """Return where a P4 switch's agent listens: `p4sync/NAME.control` in the run directory unless settings differ."""
    known = settings.p4sync.switches.get(switch)
    return run_dir() / (known.control if known and known.control else f"p4sync/{switch}.control")
