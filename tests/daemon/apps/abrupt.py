"""A server that knows no graceful stop: at SIGTERM it is dead at once, with its requests.

abrupt.py VERSION [SECONDS]: with SECONDS it takes one request at a time and so long for each. SIGUSR1 and
SIGUSR2 are noted in the file that SIGNALS names, where there is one.
"""

import http.server
import os
import signal
import socket
import sys
import time

VERSION = sys.argv[1].encode()
TAKES = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0


def note(number, _):
    with open(os.environ["SIGNALS"], "a") as file:
        file.write(f"{VERSION.decode()} {signal.Signals(number).name}\n")


for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, note)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One write for each answer: Nagle's algorithm would hold the second one back.
    wbufsize = -1
    disable_nagle_algorithm = os.environ.get("LISTEN_FDNAMES") != "path"

    def do_GET(self):
        time.sleep(TAKES)
        self.send_response(200)
        self.send_header("Content-Length", str(len(VERSION)))
        self.send_header("X-Served-By", f"{VERSION.decode()}/{os.getpid()}")
        self.end_headers()
        self.wfile.write(VERSION)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


Kind = http.server.HTTPServer if TAKES else Server
server = Kind(("", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
server.serve_forever()
