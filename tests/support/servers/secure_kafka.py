"""A Kafka broker with authentication: SASL_SSL with SCRAM, SASL with OAUTHBEARER, TLS with client certificates.

ACLs apply to every listener except PLAINTEXT, which tests use as the broker's super user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from servers.certificates import Authority, Certificate
from servers.kafka_node import kafka_node
from servers.process import LOOPBACK, ServerProcess, free_port

SERVICE_RIGHTS: Mapping[ResourceType, tuple[AclOperation, ...]] = {
    ResourceType.TOPIC: (
        AclOperation.CREATE,
        AclOperation.DESCRIBE,
        AclOperation.DESCRIBE_CONFIGS,
        AclOperation.READ,
        AclOperation.WRITE,
    ),
    ResourceType.GROUP: (AclOperation.DESCRIBE, AclOperation.READ),
}
"""Permissions of a service on everything that begins with its prefix. docs/security.md has the same."""

_SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_OAUTH_LOGIN = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"


@dataclass
class SecureKafka:
    """The broker, its certificates, and the properties with which clients reach each listener."""

    broker: ServerProcess
    authority: Authority
    certificate: Certificate
    scram: str
    oauth: str
    mtls: str

    def scram_properties(self, user: str, password: str) -> dict[str, str]:
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password,
            "ssl.ca.location": str(self.authority.file),
        }

    def oauth_properties(self, principal: str) -> dict[str, str]:
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "OAUTHBEARER",
            "enable.sasl.oauthbearer.unsecure.jwt": "true",
            "sasl.oauthbearer.config": f"principal={principal}",
        }

    def mtls_properties(self, certificate: Certificate) -> dict[str, str]:
        return {
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.authority.file),
            "ssl.certificate.location": str(certificate.certificate),
            "ssl.key.location": str(certificate.key),
        }

    def add_user(self, name: str, password: str) -> None:
        """A user of the SCRAM listener, without any permission."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(name, info, password.encode())
        admin = self._admin()
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(30)

    def allow(
        self, user: str, prefix: str, rights: Mapping[ResourceType, tuple[AclOperation, ...]] = SERVICE_RIGHTS
    ) -> None:
        """Give a user permissions on all topics and groups that begin with `prefix`."""
        bindings = [
            AclBinding(
                *(kind, prefix, ResourcePatternType.PREFIXED, f"User:{user}", "*", operation),
                AclPermissionType.ALLOW,
            )
            for kind, operations in rights.items()
            for operation in operations
        ]
        admin = self._admin()
        for future in admin.create_acls(bindings).values():
            future.result(30)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.broker.address, "log_level": 0})


def secure_kafka(directory: Path) -> SecureKafka:
    """A broker for one test, not started yet. Raises ServerUnavailableError without Java or openssl."""
    authority = Authority(directory.parent / "certificates")
    certificate = authority.issue("broker")
    addresses = {name: f"{LOOPBACK}:{free_port()}" for name in ("SCRAM", "OAUTH", "MTLS")}
    broker = kafka_node(directory, settings=_settings(authority, certificate), listeners=addresses)
    return SecureKafka(broker, authority, certificate, addresses["SCRAM"], addresses["OAUTH"], addresses["MTLS"])


def _settings(authority: Authority, certificate: Certificate) -> dict[str, str]:
    own = {"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT"}
    protocols = {**own, "SCRAM": "SASL_SSL", "OAUTH": "SASL_PLAINTEXT", "MTLS": "SSL"}
    return {
        "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in protocols.items()),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificate.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        "listener.name.mtls.ssl.client.auth": "required",
        "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": _SCRAM_LOGIN,
        "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.oauth.oauthbearer.sasl.jaas.config": _OAUTH_LOGIN,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
