"""Remove several objects with one request.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
"""

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot represent, not even escaped (https://www.w3.org/TR/xml/#charsets)."""
_CONTROLS: Final = str.maketrans({"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})


def fits_into_xml(key: str) -> bool:
    """Return whether XML can represent `key`, so that a multi-object request can name it."""
    return _NOT_XML.search(key) is None


def request_of(keys: Iterable[str]) -> tuple[Mapping[str, str], bytes]:
    """Return headers and body of a request that removes up to 1,000 `keys`; its answer lists only failures."""
    elements = "".join(f"<Object><Key>{escape(key).translate(_CONTROLS)}</Key></Object>" for key in keys)
    body = f"<Delete><Quiet>true</Quiet>{elements}</Delete>".encode()
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    return {"content-md5": md5, "content-type": "application/xml"}, body


def failed_in(answer: bytes) -> list[str]:
    """Return the keys that the store could not remove."""
    root = ET.fromstring(answer)  # noqa: S314 - our own object store wrote it
    return [one.findtext("{*}Key") or "" for one in root.iterfind("{*}Error")]
