"""A server that knows no graceful stop: at SIGTERM it is dead at once, with its requests."""

import http.server
import os
import socket
import sys

VERSION = sys.argv[1].encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One write for each answer: Nagle's algorithm would hold the second one back.
    wbufsize = -1
    disable_nagle_algorithm = os.environ.get("LISTEN_FDNAMES") != "path"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(VERSION)))
        self.send_header("X-Served-By", f"{VERSION.decode()}/{os.getpid()}")
        self.end_headers()
        self.wfile.write(VERSION)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


server = Server(("", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
server.serve_forever()
