"""A certificate authority for one test, and a redis-server that speaks TLS only."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from redis_users import password_of, write_users
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.x509 import Certificate

_DAY = dt.timedelta(days=1)


class Authority:
    """Signs certificates; its own is the file `ca`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._folder = folder
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        certificate = (
            _begun(self._name, self._name, self._key)
            .add_extension(constraints, critical=True)
            .add_extension(_SIGNS, critical=True)
            .add_extension(self._key_id(), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(_pem(certificate))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a server at 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        place = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _begun(_name(name), self._name, key)
            .add_extension(x509.SubjectAlternativeName([place]), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = (self._folder / f"{name}.crt", self._folder / f"{name}.key")
        files[0].write_bytes(_pem(certificate))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _key_id(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())


class TlsRedis:
    """A redis-server of the system on a TLS port of 127.0.0.1, with Baton's users."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("redis-server is missing")
        certificate, key = authority.issue("redis")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.passwords = folder / "passwords"
        self.url = f"rediss://127.0.0.1:{self.port}/0"
        self._ca = authority.ca
        self._process = subprocess.Popen(
            [
                binary, "--port", "0", "--tls-port", str(self.port), "--bind", "127.0.0.1",
                "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
                "--tls-ca-cert-file", str(authority.ca), "--tls-auth-clients", "no",
                "--dir", str(folder), "--save", "", "--appendonly", "yes",
                "--aclfile", str(write_users(folder)),
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        until(self._answers, what="redis-server answering over TLS")

    def admin(self) -> redis.Redis:
        return redis.Redis.from_url(
            self.url, username="admin", password=password_of("admin"), ssl_ca_certs=str(self._ca)
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("this redis-server has no TLS")
        try:
            with self.admin() as admin:
                return bool(admin.ping())
        except redis.ConnectionError:
            return False


_SIGNS = x509.KeyUsage(
    digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
    key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
    decipher_only=False,
)  # fmt: skip


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
