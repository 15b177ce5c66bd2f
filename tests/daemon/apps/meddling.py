"""A server that changes who receives how much, each time it gets SIGUSR1: meddling.py VERSION HOW [FILE].

HOW is detach: it takes the program off the SO_REUSEPORT group of its listener (SO_DETACH_REUSEPORT_BPF); attach: it
puts one there that gives everything to the slot that listened second; again: it shuts its listener down and listens,
five times. FILE gets a byte each time that is done.
"""

import contextlib
import ctypes
import http.server
import os
import signal
import socket
import struct
import sys

VERSION, HOW = sys.argv[1:3]
DONE = sys.argv[3] if len(sys.argv) > 3 else None
SO_ATTACH_REUSEPORT_CBPF, SO_DETACH_REUSEPORT_BPF = 51, 68
listener = socket.socket(fileno=3)
# One instruction: return 1.
RETURN = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 1))


def meddle(*_):
    if HOW == "detach":
        # It may be off already.
        with contextlib.suppress(FileNotFoundError):
            listener.setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
    elif HOW == "again":
        for _ in range(5):
            listener.shutdown(socket.SHUT_RDWR)
            listener.listen(128)
    else:
        program = struct.pack("H6xQ", 1, ctypes.addressof(RETURN))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)
    if DONE:
        with open(DONE, "a") as done:
            done.write("x")


class Handler(http.server.BaseHTTPRequestHandler):
    wbufsize = -1

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("X-Served-By", f"{VERSION}/{os.getpid()}")
        self.end_headers()

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


signal.signal(signal.SIGUSR1, meddle)
server = Server(("", 0), Handler, bind_and_activate=False)
server.socket = listener
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
server.serve_forever()
