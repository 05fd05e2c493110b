"""The ingress extends parts of uvicorn that are not public: this names those that an update has changed."""

import ast
import inspect
import re
import textwrap

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.ingress.adapters.http_connections import HttpConnection

THEIRS = inspect.getsource(HttpToolsProtocol)
FIX = "adapt services/ingress/adapters/http_connections.py to this uvicorn, or lock the earlier one"


def test_uvicorn_has_every_method_that_the_connection_extends():
    extended = {name for name, one in vars(HttpConnection).items() if callable(one) and "super()" in source(one)}
    assert {"on_headers_complete", "on_response_complete"} <= extended
    assert {name for name in extended if not re.search(rf"def {name}\(", THEIRS)} == set(), FIX
    assert "self.send_400_response(" in THEIRS, FIX


def test_uvicorn_sets_every_attribute_that_the_connection_reads():
    found = [node for node in ast.walk(ast.parse(source(HttpConnection))) if isinstance(node, ast.Attribute)]
    own = [node for node in found if isinstance(node.value, ast.Name) and node.value.id == "self"]
    set_here = {node.attr for node in own if isinstance(node.ctx, ast.Store)}
    read = {node.attr for node in own} - set_here - set(vars(HttpConnection))
    assert {"pipeline", "cycle", "url", "timeout_keep_alive"} <= read
    assert {name for name in read if not re.search(rf"self\.{name}(: [^=]+)? = |def {name}\(", THEIRS)} == set(), FIX
    assert httptools_impl.STATUS_LINE[431].startswith(b"HTTP/1.1 431 "), FIX


def source(one):
    return textwrap.dedent(inspect.getsource(one))
