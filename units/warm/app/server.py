"""http.server on the socket that supd lends. It fills its memory, and only then says READY=1. There is no graceful
stop in it: it is told to stop when its clients have gone."""
import hashlib
import http.server
import os
import socket

RELEASE = os.environ["SUPD_RELEASE"]
BODY = f"hello from release {RELEASE}\n".encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1                       # one packet for each answer …
    disable_nagle_algorithm = True      # … which waits for no other

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.send_header("X-Served-By", f"{RELEASE}/{os.getpid()}")
        if self.close_connection:       # the client asked for it
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


# What makes a start slow: here a moment, elsewhere minutes.
cache = [hashlib.pbkdf2_hmac("sha256", b"entry", str(entry).encode(), 100) for entry in range(1000)]

server = http.server.ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supd:
    supd.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
server.serve_forever()
