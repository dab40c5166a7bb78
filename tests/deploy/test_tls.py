"""rediss:// to a real server with TLS: who can't prove to be the server that was asked for gets no password."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from eventbus import EventBus, SyncPublisher
from eventbus.doctor import diagnose
from eventbus.errors import Misconfigured, Unavailable
from eventbus.redis import server
from eventbus.redis.connection import Connection
from tests.deploy.servers import running
from tests.servers import BINARIES

TLS_CONF = Path(__file__).parents[2] / "deploy" / "redis" / "tls.conf"


def has_tls(binary: Path) -> bool:
    """A build with TLS misses its certificate; others miss TLS."""
    command = [str(binary), "--port", "0", "--tls-port", "1"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return "Failed to configure TLS" in said.stdout


WITH_TLS = {version: binary for version, binary in BINARIES.items() if has_tls(binary)}
pytestmark = pytest.mark.skipif(not WITH_TLS, reason="no redis-server on this machine is built with TLS (Debian's is)")


@dataclass
class Authority:
    """A certificate authority of this test."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def made(cls, name: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        rights = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        draft = _draft(subject, subject, key).add_extension(x509.BasicConstraints(True, None), critical=True)
        return cls(key, draft.add_extension(rights, critical=True).sign(key, hashes.SHA256()))

    def write(self, path: Path) -> Path:
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def certify(self, host: str, folder: Path) -> tuple[Path, Path]:
        """A certificate for a host and its key, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        draft = _draft(subject, self.certificate.subject, key).add_extension(names, critical=False)
        signed = draft.sign(self.key, hashes.SHA256())
        (folder / "redis.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        (folder / "redis.key").write_bytes(private)
        return folder / "redis.crt", folder / "redis.key"


def _draft(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


@dataclass
class Secured:
    """A server whose certificate is for `localhost`, and the file of the authority that says so."""

    port: int
    authority: Path


@pytest.fixture(scope="module", params=sorted(WITH_TLS))
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    home = tmp_path_factory.mktemp("tls")
    authority = Authority.made("ours")
    file = authority.write(home / "ca.crt")
    certificate, key = authority.certify("localhost", home)
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(file))
    conf = home / "tls.conf"  # the paths of the file are those of a real machine
    lines = TLS_CONF.read_text().splitlines()
    conf.write_text("\n".join(line for line in lines if "/etc/redis/tls" not in line))
    options = ("--include", str(conf), "--appendonly", "yes", "--requirepass", "hunter2", *files)
    with running(WITH_TLS[request.param], home, *options, tls=True) as port:
        yield Secured(port, file)


def address(secured: Secured, *, host: str = "localhost", authority: Path | None = None) -> str:
    trusted = f"?ssl_ca_certs={authority}" if authority else ""
    return f"rediss://:hunter2@{host}:{secured.port}/0{trusted}"


async def test_the_right_server_is_published_to_over_tls(secured: Secured) -> None:
    url = address(secured, authority=secured.authority)
    async with EventBus.open(url) as bus:
        await bus.check_server()
        assert (await bus.publish("vm.created", {"vm_id": "1"})).status == "stored"
    with SyncPublisher(url) as publisher:
        assert publisher.publish("vm.created", {"vm_id": "2"}).status == "stored"


async def test_the_doctor_says_that_the_way_is_over_tls_and_no_other_is_open(secured: Secured) -> None:
    connection = await Connection.open(address(secured, authority=secured.authority))
    try:
        found = diagnose(await server.read(connection), None)
        ports = await connection.do("CONFIG GET", "port")
    finally:
        await connection.close()
    assert ports == {"port": "0"}, "tls.conf leaves no plain port open"
    assert any("over TLS" in one.what for one in found.findings)
    assert not found.is_bad


@pytest.mark.parametrize("which", ["of the system", "another"])
async def test_a_certificate_of_an_authority_that_is_not_trusted_is_refused(
    secured: Secured, which: str, tmp_path: Path
) -> None:
    other = Authority.made("ours").write(tmp_path / "other.crt") if which == "another" else None
    await refused(address(secured, authority=other))


async def test_a_certificate_for_another_host_is_refused(secured: Secured) -> None:
    await refused(address(secured, host="127.0.0.1", authority=secured.authority))


async def refused(url: str) -> None:
    async with EventBus.open(url) as bus:
        with pytest.raises(Misconfigured, match="not trusted, or is for another host name") as refusal:
            await bus.check_server()
    assert "hunter2" not in str(refusal.value)


async def test_nothing_is_stored_without_encryption_where_tls_is_spoken(secured: Secured) -> None:
    async with EventBus.open(f"redis://:hunter2@localhost:{secured.port}/0") as bus:
        with pytest.raises(Unavailable):
            await bus.check_server()
