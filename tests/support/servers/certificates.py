"""A certificate authority for tests, and certificates signed by it, created by the `openssl` command.

All certificates are for 127.0.0.1 and valid for a day. Does not depend on any server.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from servers.process import LOOPBACK, ServerUnavailableError

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """PEM files: the certificate, its key, and both in one."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Signs certificates; `file` is its own certificate, which clients trust."""

    def __init__(self, folder: Path, name: str = "test-ca") -> None:
        """Raises ServerUnavailableError if openssl is missing."""
        if shutil.which("openssl") is None:
            raise ServerUnavailableError("openssl is missing, which creates certificates: install it")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-days", "1", "-subj", f"/CN={name}"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"),
            *("-keyout", self._key, "-out", self.file),
        )

    def issue(self, name: str, host: str = LOOPBACK) -> Certificate:
        """A certificate of the subject `CN=name`, for the address `host` and `localhost`."""
        made = Certificate(*(self._folder / f"{name}.{kind}" for kind in ("crt", "key", "pem")))
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=IP:{host},DNS:localhost\n")
        _openssl("req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", made.key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-days", "1", "-CA", self.file, "-CAkey", self._key),
            *("-CAcreateserial", "-extfile", extensions, "-out", made.certificate),
        )
        made.both.write_text(made.key.read_text() + made.certificate.read_text())
        return made


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise ServerUnavailableError(f"openssl {arguments[0]} failed: {done.stderr[-500:]}")
