"""Request headers that change a write: each is honored or refused, never ignored.

A route declares which ones it honors; the others listed here are refused before the body is read.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from services.ingress.core import checksums
from services.ingress.core.checksums import CHECKSUM_PREFIX, Checksum
from services.ingress.core.conditions import WRITE_CONDITIONS, Precondition
from services.ingress.core.encoding import decode_utf8
from services.ingress.core.names import RESERVED_METADATA
from shared.encoded_words import decode_words
from shared.errors import Rejected
from shared.object_headers import STORED_HEADERS

META_PREFIX: Final = "x-amz-meta-"
CONDITION_HEADERS: Final = frozenset(WRITE_CONDITIONS)
OBJECT_HEADERS: Final = frozenset({META_PREFIX, CHECKSUM_PREFIX, "x-amz-sdk-checksum-algorithm"})
TUS_HEADERS: Final = frozenset({"upload-length", "upload-metadata", "upload-offset", "upload-checksum"})
METHOD_OVERRIDE: Final = "x-http-method-override"
_MAX_STORED_CHARS: Final = 2048
FORBIDDEN_CHARS: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
"""In a header these would end it, or are no text."""
_WHOLE: Final = "objects are stored whole: send all of the body, or resume uploads with /tus/"
_NOT_HERE: Final = "this is not an S3 server, and what it asks for is not done here: leave it out"
_PLAIN: Final = "send the bytes as they are"
_METHOD: Final = "send the method itself"
_CONDITION: Final = "only writes of single objects (/objects/, /files/, /tus/) have conditions: leave it out here"

_REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("content-range", "range", "if-range", "x-update-range", "x-amz-write-offset-bytes", "x-ms-range"), _WHOLE
    ),
    **dict.fromkeys((*WRITE_CONDITIONS, "if-modified-since", "if"), _CONDITION),
    **dict.fromkeys((METHOD_OVERRIDE, "x-http-method", "x-method-override"), _METHOD),
    **dict.fromkeys(("overwrite", "lock-token", "x-oc-mtime", "oc-checksum", "oc-chunked"), _NOT_HERE),
    **dict.fromkeys(("x-goog-if-generation-match", "x-goog-if-metageneration-match", "x-goog-hash"), _NOT_HERE),
    "content-encoding": f"it is stored with objects of PUT /objects/; here {_PLAIN}",
    "content-transfer-encoding": _PLAIN,
    "repr-digest": "it is checked with PUT /objects/ and uploads by form: send Content-Digest, which always is",
    "trailer": "what comes behind a body is not read: send it before it",
    "upload-concat": "pieces are not joined here (Tus-Extension lists what is spoken): send one upload, not several",
    "upload-defer-length": "the length must be known from the beginning (Tus-Extension lists what is spoken)",
}  # fmt: skip
"""By name, in lower case: what to do instead."""
_REFUSED_PREFIXES: Final[Mapping[str, str]] = {
    "upload-": "resumable uploads are begun at /tus/ by tus 1.0",
    "x-amz-": _NOT_HERE,
}
_HARMLESS: Final[Mapping[str, frozenset[str]]] = {
    "content-encoding": frozenset({"identity"}),
    "content-transfer-encoding": frozenset({"binary", "8bit", "7bit"}),
    "x-amz-acl": frozenset({"private", "bucket-owner-full-control"}),
    "x-amz-storage-class": frozenset({"standard"}),
    "overwrite": frozenset({"t"}),
}
"""By name: values that request the default behavior."""
_UNRELATED: Final = frozenset(
    {checksums.PAYLOAD_HASH, "x-amz-date", "x-amz-security-token", "x-amz-user-agent", "x-amz-request-payer"}
) | {"x-amz-cf-id", "x-amz-apigw-id"}
"""What begins like S3's headers and changes no write, or is checked where the body is read."""
_CHUNKED: Final = "aws-chunked"


def header_map(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by name in lower case, repeated ones joined by commas (RFC 9110, section 5.3)."""
    found: dict[str, str] = {}
    for name, value in raw:
        text, key = value.decode("latin-1"), name.decode("latin-1").lower()
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def refuse_unhonored(headers: Mapping[str, str], honored: frozenset[str]) -> None:
    """Refuse headers, names in lower case, that would change a write and that the route does not honor.

    Raises Rejected: HEADER_REFUSED, EXPECTATION_FAILED.
    """
    for name, value in headers.items():
        if name == "expect" and value.strip().lower() != "100-continue":
            raise Rejected("EXPECTATION_FAILED", f"Expect is {value[:40]!r}: only 100-continue is known")
        if _is_honored(name, honored) or value.strip().lower() in _HARMLESS.get(name, ()):
            continue
        beginnings = (fix for beginning, fix in _REFUSED_PREFIXES.items() if name.startswith(beginning))
        if name not in _UNRELATED and (fix := _REFUSED.get(name) or next(beginnings, "")):
            raise Rejected("HEADER_REFUSED", f"the header {name} is refused: {fix}")


def _is_honored(name: str, honored: frozenset[str]) -> bool:
    return name in honored or any(name.startswith(one) for one in honored if one.endswith("-"))


@dataclass(frozen=True, slots=True)
class ObjectHeaders:
    """The properties of an object from the headers of its upload."""

    content_type: str | None = None
    stored: Mapping[str, str] = field(default_factory=dict)
    """Those of `shared.object_headers.STORED_HEADERS`."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    checksums: tuple[Checksum, ...] = ()
    precondition: Precondition = field(default_factory=Precondition)

    @classmethod
    def of_body(cls, raw: Iterable[tuple[bytes, bytes]]) -> Self:
        """Parse the headers of a request whose body is the object.

        Raises Rejected: BAD_HEADER, BAD_CHECKSUM, BAD_CONDITION, METADATA_RESERVED, NO_UTF8, HEADER_REFUSED.
        """
        raw = list(raw)
        headers = header_map(raw)
        return replace(cls._of(raw, headers), content_type=headers.get("content-type"), stored=_stored_headers(headers))

    @classmethod
    def of_form(cls, raw: Iterable[tuple[bytes, bytes]]) -> Self:
        """Parse the headers of a request whose body is a form with the object; raises what `of_body` does."""
        raw = list(raw)
        return cls._of(raw, header_map(raw))

    @classmethod
    def _of(cls, raw: Iterable[tuple[bytes, bytes]], headers: Mapping[str, str]) -> Self:
        return cls(
            metadata=_metadata(_texts(raw)),
            checksums=checksums.parse_object_checksums(headers),
            precondition=Precondition.parse(headers),
        )

    def with_part(self, headers: Mapping[str, str], content_type: str | None, fields: Mapping[str, str]) -> Self:
        """Add the headers of the file's part, names in lower case, and the fields before it.

        Raises what `of_body` does.
        """
        refuse_unhonored(headers, frozenset({"content-encoding", "repr-digest", META_PREFIX, CHECKSUM_PREFIX}))
        form_metadata = {
            name.lower(): text
            for name, text in fields.items()
            if name.lower().startswith((META_PREFIX, CHECKSUM_PREFIX))
        }
        described = {**form_metadata, **headers}
        return replace(
            self,
            content_type=content_type,
            stored={
                **self.stored,
                **_stored_headers({name: text for name, text in headers.items() if name != "content-disposition"}),
            },
            metadata={**self.metadata, **_metadata(described.items())},
            checksums=(
                *self.checksums,
                *checksums.parse_content_checksums(headers),
                *checksums.parse_object_checksums(described),
            ),
        )

    def with_metadata(self, metadata: Mapping[str, str]) -> Self:
        """Add metadata of the ingress itself."""
        return replace(self, metadata={**self.metadata, **metadata})


def must_precede_file(name: str) -> bool:
    """Return whether a form field describes the file, so that it must precede the file."""
    return name.lower().startswith((META_PREFIX, CHECKSUM_PREFIX))


def clean_metadata(name: str, text: str) -> str:
    """Return a metadata value with encoded words (RFC 2047) decoded; raises Rejected (BAD_METADATA)."""
    if FORBIDDEN_CHARS.search(decoded := decode_words(text.strip())):
        raise Rejected("BAD_METADATA", f"the metadata {name} hold a control character: leave it out")
    return decoded


def _texts(raw: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[str, str]]:
    for raw_name, value in raw:
        if (name := raw_name.decode("latin-1").lower()).startswith(META_PREFIX):
            yield name, decode_utf8(value, name)


def _metadata(named_texts: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for header, text in named_texts:
        if not header.startswith(META_PREFIX):
            continue
        name = header.removeprefix(META_PREFIX)
        if name in RESERVED_METADATA:
            raise Rejected("METADATA_RESERVED", f"the header {header} is the ingress's own: leave it out")
        value = clean_metadata(name, text)
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    found = {name: headers[name].strip() for name in STORED_HEADERS if headers.get(name, "").strip()}
    if found.get("content-encoding", "").lower() == "identity":
        del found["content-encoding"]
    if _CHUNKED in (found.get("content-encoding") or "").lower():
        raise Rejected("HEADER_REFUSED", f"the Content-Encoding {_CHUNKED} is refused: {_PLAIN}, as curl -T does")
    for name, value in found.items():
        if FORBIDDEN_CHARS.search(value) or not value.isascii() or len(value) > _MAX_STORED_CHARS:
            raise Rejected(
                "BAD_HEADER", f"{name} is no text of up to {_MAX_STORED_CHARS} ASCII characters: shorten or encode it"
            )
    return found
