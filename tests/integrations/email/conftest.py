"""A running FakeMail, certificates for it, and the adapter in front of it."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from integrations.email import Email
from integrations.email.fake import FakeMail
from integrations.testing.context import make_context

Connect = Callable[..., Awaitable[Email]]


@pytest.fixture
async def fake() -> AsyncIterator[FakeMail]:
    async with FakeMail() as fake:
        yield fake


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes adapters in front of a fake, with settings changed, and closes them at the end."""
    async with AsyncExitStack() as stack:

        async def make(fake: FakeMail, **changes: Any) -> Email:
            settings = {name: value for name, value in (fake.settings() | changes).items() if value is not None}
            adapter, context = Email(), make_context(Email, settings)
            stack.push_async_callback(context.http.close)
            await adapter.initialize(context)
            return adapter

        yield make


@pytest.fixture
async def email(connect: Connect, fake: FakeMail) -> Email:
    return await connect(fake)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and the certificate of 127.0.0.1 for it, which nobody else trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "mail.pem"
    path.write_bytes(private + made.public_bytes(pem))
    return path


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
