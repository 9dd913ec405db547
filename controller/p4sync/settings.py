# SPDX-License-Identifier: Apache-2.0
"""An agent's settings: a TOML file, checked once at start; paths are relative to the file."""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from controller.p4sync.errors import SettingsError
from controller.p4sync.pace import Pace
from controller.p4sync.protocol import Suite

BUILD = Path(__file__).resolve().parents[2] / "p4src" / "build"
TRANSPORTS = {"tcp": 6, "udp": 17}
SUITES = {"siphash": Suite.SIPHASH, "polynomial": Suite.POLYNOMIAL, "none": Suite.NONE}
PACE = Pace()
Port = Annotated[int, Field(ge=0, le=510)]
SwitchId = Annotated[int, Field(ge=1, le=65_535)]
Address = Annotated[str, Field(pattern=r"^(unix:.+|[^\s/]+:\d+)$")]


class Section(BaseModel):
    """Base of all sections: unknown keys are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(Section):
    """Files for TLS to the switch."""

    authority: Path
    key: Path
    certificate: Path


class Switch(Section):
    """The switch that the agent stands beside."""

    address: Address
    device: int = Field(default=0, ge=0)
    election: int = Field(default=1, ge=1, lt=1 << 64)
    """Among several controllers of a switch the one with the highest is primary."""
    program: Literal["flow_state", "baseline"] = "flow_state"
    pipeline: Path | None = None
    p4info: Path | None = None
    tls: Tls | None = None

    @property
    def pipeline_path(self) -> Path:
        """Return the compiled program."""
        return self.pipeline or BUILD / f"{self.program}.json"

    @property
    def p4info_path(self) -> Path:
        """Return its P4Info."""
        return self.p4info or BUILD / f"{self.program}.p4info.txtpb"


class Peer(Section):
    """Another agent: its switch's id, its public key, where it listens, our port towards its switch."""

    id: SwitchId
    key: Path
    address: Address
    port: Port


class Service(Section):
    """A server's address and port, and the number of the service that it offers: the same behind every switch."""

    address: str
    transport: Literal["tcp", "udp"] = "tcp"
    port: int = Field(ge=1, le=65_535)
    service: int = Field(ge=1, le=65_535)

    @field_validator("address")
    @classmethod
    def _is_ipv4(cls, value: str) -> str:
        return str(ipaddress.IPv4Address(value))


class Forward(Section):
    """What comes in by ``in_port`` (left out: any) for the Ethernet address ``to`` (left out: any) leaves by a port."""

    out_port: Port
    in_port: Port | None = None
    to: str | None = Field(default=None, pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
    priority: int = Field(default=1, ge=1)


class Times(Section):
    """Pace and patience of sessions, in seconds; ``window`` in packets."""

    window: int = Field(default=PACE.window, ge=2, le=4_096)
    look_interval: float = Field(default=PACE.look_interval, gt=0, le=1)
    retry: float = Field(default=PACE.retry, gt=0, le=60)
    stall: float = Field(default=PACE.stall, gt=0, le=60)
    busy_retry: float = Field(default=PACE.busy_retry, gt=0, le=60)
    patience: float = Field(default=PACE.patience, gt=0, le=3_600)
    idle: float = Field(default=PACE.idle, gt=0, le=86_400)


class AgentSettings(Section):
    """The whole file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    id: SwitchId
    key: Path
    control: Path
    listen: Address
    journal: Path | None = None
    suite: Literal["siphash", "polynomial", "none"] = "polynomial"
    attempts: int = Field(default=3, ge=1, le=100)
    switch: Switch
    peers: dict[str, Peer] = {}
    services: tuple[Service, ...] = ()
    forward: tuple[Forward, ...] = ()
    times: Times = Times()

    @model_validator(mode="after")
    def _consistent(self) -> AgentSettings:
        ids = [self.id, *(peer.id for peer in self.peers.values())]
        if len(set(ids)) != len(ids):
            raise ValueError("two switches have the same id; give each its own")
        if self.name in self.peers:
            raise ValueError(f"{self.name} is this agent itself; remove it from the peers")
        if (self.suite == "none") != (self.switch.program == "baseline"):
            raise ValueError(
                'suite "none" goes with program "baseline" and with no other: it authenticates nothing,'
                " and is there to be compared with"
            )
        return self

    @property
    def pace(self) -> Pace:
        """Return the times as the machines use them."""
        return Pace(**self.times.model_dump())


def load_settings(path: Path) -> AgentSettings:
    """Read and check an agent's settings; raises SettingsError with file, key and mend."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; docs/p4sync.md shows such a file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    try:
        return AgentSettings.model_validate(_absolute(raw, path.resolve().parent))
    except ValidationError as error:
        raise SettingsError(f"{path}: " + "; ".join(_complaint(item) for item in error.errors())) from error


def _absolute(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings with their paths made absolute."""

    def place(table: Any, *keys: str) -> None:
        for key in keys if isinstance(table, dict) else ():
            value = table.get(key)
            if isinstance(value, str):
                unix = value.startswith("unix:")
                if key not in ("address", "listen") or unix:
                    table[key] = ("unix:" if unix else "") + str(folder / value.removeprefix("unix:"))

    place(raw, "key", "control", "listen", "journal")
    switch = raw.get("switch")
    place(switch, "address", "pipeline", "p4info")
    if isinstance(switch, dict):
        place(switch.get("tls"), "authority", "key", "certificate")
    peers = raw.get("peers")
    for peer in peers.values() if isinstance(peers, dict) else ():
        place(peer, "key", "address")
    return raw


def _complaint(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    text = str(item["msg"]).removeprefix("Value error, ")
    return f"{where}: {text}" if where else text
