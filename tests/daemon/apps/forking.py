"""A server that forks before it serves: its first process accepts nothing.

forking.py VERSION WORKERS: so many children take one request at a time.
"""

import http.server
import os
import signal
import socket
import sys

VERSION = sys.argv[1].encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(VERSION)))
        self.send_header("X-Served-By", f"{VERSION.decode()}/{os.getpid()}")
        self.end_headers()
        self.wfile.write(VERSION)

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        server.serve_forever()
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
