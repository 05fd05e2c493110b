"""Content-Disposition and Content-Type of downloads, so that a browser saves objects and never runs them."""

import re
from typing import Final
from urllib.parse import quote

OPAQUE: Final = "application/octet-stream"

_SAFE: Final = re.compile(
    r"(text/(plain|csv|markdown)(; ?charset=[\w-]{1,20})?|image/(png|jpeg|gif|webp|avif|bmp|tiff)|audio/[\w.+-]{1,40}"
    r"|video/[\w.+-]{1,40}|application/(json|pdf|zip|gzip|zstd|x-tar|x-7z-compressed|x-bzip2|x-xz|x-ipynb\+json"
    r"|vnd\.apache\.parquet|vnd\.openxmlformats-officedocument\.[\w.-]{1,60}|octet-stream))",
    re.ASCII | re.IGNORECASE,
)
"""Types that no browser executes; scripts, HTML, SVG and XML are not among them."""
_UNQUOTED: Final = re.compile(r'[^\x20-\x7e]|["\\%]')
_ATTR_CHARS: Final = "!#$&-.^_`|~"
"""Characters that RFC 8187 leaves unescaped in `filename*`; `+` is escaped, because some clients read it as a blank."""


def attachment(key: str) -> str:
    """Write the Content-Disposition (RFC 6266) of the object `key`: the name is what follows its last slash.

    Clients from before RFC 8187 get the name with `_` for what they could misread.
    """
    name = key.rpartition("/")[2] or "object"
    plain = f'attachment; filename="{_UNQUOTED.sub("_", name)}"'
    return f"{plain}; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS, errors='replace')}"


_PARAMETERS: Final = re.compile(
    r'attachment(?:[ \t]*;[ \t]*[\w!#$&+^`|~.*-]{1,40}[ \t]*=[ \t]*(?:[\w!#$&+^`|~.%\'-]+|"(?:[^"\\]|\\.)*"))*',
    re.ASCII | re.IGNORECASE,
)
_KIND: Final = re.compile(r"[\w-]+", re.ASCII)


def safe_disposition(said: str | None, key: str) -> str:
    """Return the stored Content-Disposition, changed to an attachment.

    Other disposition types become `attachment` with the same parameters; an invalid header is replaced by one from
    `key`.
    """
    saved = _KIND.sub("attachment", (said or "").strip(), count=1)
    return saved if saved != "attachment" and _PARAMETERS.fullmatch(saved) and saved.isprintable() else attachment(key)


def safe_content_type(content_type: str | None) -> str:
    """Return the stored content type if it is harmless, else application/octet-stream."""
    return content_type if content_type and _SAFE.fullmatch(content_type.strip()) else OPAQUE
