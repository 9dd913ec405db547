# SPDX-License-Identifier: Apache-2.0
"""TLS to a switch: both sides need a certificate of the authority; a stranger's, or none, gets nothing."""

from __future__ import annotations

import asyncio
import datetime
import socket
from ipaddress import IPv4Address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from unit.p4sync.switch_stand import BUILD, Ear, until

from controller.p4sync.client.channel import Certificates
from controller.p4sync.client.client import Connection, P4Client
from controller.p4sync.client.schema import Schema
from p4src.target.device import Device
from p4src.target.server import serve


class Authority:
    """Makes certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key, is_authority=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, is_authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        """Files of a key and its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, is_authority=False)
        paths = (self.folder / f"{name}.key", self.folder / f"{name}.crt")
        pem = serialization.Encoding.PEM
        form = serialization.PrivateFormat.PKCS8
        paths[0].write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
        paths[1].write_bytes(certificate.public_bytes(pem))
        return paths


@pytest.mark.parametrize(
    ("trusted", "issuer", "works"), [("ours", "ours", True), ("ours", "other", False), ("other", "ours", False)]
)
def test_certificates(tmp_path: Path, trusted: str, issuer: str, works: bool) -> None:
    """Whom the client trusts, and who has issued its own certificate."""
    authorities = {name: Authority(tmp_path, name) for name in ("ours", "other")}
    key, certificate = authorities["ours"].issue("switch")
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())], authorities["ours"].path.read_bytes(), True
    )
    device = Device(0, [], 255)
    device.dataplane.start()
    server = serve_somewhere(device, credentials)
    own_key, own = authorities[issuer].issue("agent")

    async def run() -> None:
        ear = Ear()
        schema = Schema.load(BUILD / "flow_state.p4info.txtpb")
        certificates = Certificates(authorities[trusted].path, own_key, own)
        client = P4Client("s", server[1], schema, ear, certificates=certificates)
        task = asyncio.get_running_loop().create_task(client.run())
        await until(lambda: bool(ear.connections))
        if works:
            assert client.connection is Connection.PRIMARY
            assert await client.read_cookie() is None
        else:
            assert client.connection is Connection.DOWN
            assert "cannot be reached" in client.detail
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    try:
        asyncio.run(run())
    finally:
        server[0].stop(0).wait()
        device.dataplane.stop()


def serve_somewhere(device: Device, credentials: grpc.ServerCredentials) -> tuple[grpc.Server, str]:
    """Serve on a free port of loopback; the server and its address."""
    for _ in range(20):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        try:
            return serve(device, address, credentials), address
        except RuntimeError:
            continue
    raise RuntimeError("no port is free")
