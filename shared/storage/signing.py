"""AWS Signature Version 4 for S3 requests, in headers and in URLs.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
_ALGORITHM = "AWS4-HMAC-SHA256"


def path_of(bucket: str, key: str) -> str:
    """Return the escaped path of an object, as signed and sent."""
    base = f"/{quote(bucket.encode('utf-8', 'surrogateescape'), safe='-_.~')}"
    return f"{base}/{quote(key.encode('utf-8', 'surrogateescape'), safe='/-_.~')}" if key else base


def query_of(parameters: Mapping[str, str]) -> str:
    """Return the sorted and escaped query string, as signed and sent."""
    pairs = ((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parameters.items())
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _canonical(method: str, path: str, query: str, headers: Mapping[str, str], hashed: str) -> tuple[str, str]:
    """Return the names of the signed headers and the canonical request."""
    names = sorted(headers)
    listed = ";".join(names)
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
    return listed, f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{hashed}"


@dataclass(slots=True)
class Signer:
    """Signs requests of one user; derives the signing key once a day."""

    access_key: str
    secret_key: SecretStr
    region: str
    _day: str = ""
    _key: bytes = field(default=b"", repr=False)

    def sign(  # noqa: PLR0913, PLR0917 - the parts of a request
        self, method: str, host: str, path: str, query: str, headers: Mapping[str, str], body: bytes | None = b""
    ) -> dict[str, str]:
        """Return `headers` (names in lower case) with the time, the body's hash and the signature added.

        `body` is None for a stream: its hash is unknown when the headers are sent, so its own checksum protects it.
        """
        time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        hashed = UNSIGNED if body is None else hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256
        signed = {**headers, "host": host, "x-amz-content-sha256": hashed, "x-amz-date": time}
        listed, request = _canonical(method, path, query, signed, hashed)
        credential = f"{_ALGORITHM} Credential={self.access_key}/{self._scope(time)}"
        signature = self._signature(time, request)
        return {**signed, "authorization": f"{credential},SignedHeaders={listed},Signature={signature}"}

    def presign(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        endpoint: str,
        path: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str],
        seconds: int,
    ) -> str:
        """Return a URL that permits one request with `headers` (names in lower case) for `seconds`.

        The signature covers method, host, path, query and `headers`. Its holder may choose other headers and the body:
        only the rights of the signing user limit them.
        https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
        """
        time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        base = endpoint.rstrip("/")
        signed = {**headers, "host": urlsplit(base).netloc}
        query_string = query_of(
            {
                **query,
                "X-Amz-Algorithm": _ALGORITHM,
                "X-Amz-Credential": f"{self.access_key}/{self._scope(time)}",
                "X-Amz-Date": time,
                "X-Amz-Expires": str(seconds),
                "X-Amz-SignedHeaders": ";".join(sorted(signed)),
            }
        )
        _, request = _canonical(method, path, query_string, signed, UNSIGNED)
        return f"{base}{path}?{query_string}&X-Amz-Signature={self._signature(time, request)}"

    def _scope(self, time: str) -> str:
        return f"{time[:8]}/{self.region}/s3/aws4_request"

    def _signature(self, time: str, request: str) -> str:
        text = f"{_ALGORITHM}\n{time}\n{self._scope(time)}\n{hashlib.sha256(request.encode()).hexdigest()}"
        return hmac.digest(self._key_of(time[:8]), text.encode(), "sha256").hex()

    def _key_of(self, day: str) -> bytes:
        if self._day != day:
            key = f"AWS4{self.secret_key.get_secret_value()}".encode()
            for part in (day, self.region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day, self._key = day, key
        return self._key
