"""What a server's own health page says at its start, and what the native stack makes of it."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from deploy.native import ready
from deploy.native.process import NotReady

WITHOUT_ITS_BUCKETS = {"/minio/health/live": 200, "/minio/health/ready": 200, "/minio/health/cluster": 503}


@pytest.fixture
def store():
    """An object store that answers as MinIO does until it has read its buckets and users."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.answers[self.path])
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        server.answers = dict(WITHOUT_ITS_BUCKETS)
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_object_store_that_has_not_read_its_buckets_is_not_ready(store):
    with pytest.raises(NotReady, match="/minio/health/cluster answers 503"):
        ready.minio(store.server_port)
    store.answers["/minio/health/cluster"] = 200
    ready.minio(store.server_port)
