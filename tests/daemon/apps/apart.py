"""A server that is well, and accepts, once its test says so: by files in FOLDER.

apart.py VERSION FOLDER: /health is answered with 503 until FOLDER/well-VERSION is there, and each time a line
is added to FOLDER/asked-VERSION. The n-th listener, from 0, accepts nothing while FOLDER/deaf-VERSION-n is
there. Datagrams are answered with the version. It says nothing to NOTIFY_SOCKET.
"""

import http.server
import os
import pathlib
import socket
import sys
import threading
import time

VERSION, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])


class Handler(http.server.BaseHTTPRequestHandler):
    wbufsize = -1

    def do_GET(self):
        well = True
        if self.path == "/health":
            with open(FOLDER / f"asked-{VERSION}", "a") as asked:
                asked.write("asked\n")
            well = (FOLDER / f"well-{VERSION}").exists()
        self.send_response(200 if well else 503)
        self.send_header("Content-Length", "0")
        self.send_header("X-Served-By", f"{VERSION}/{os.getpid()}")
        if self.client_address:
            self.send_header("X-Client-Port", str(self.client_address[1]))
        self.end_headers()

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


def answer(listener):
    while True:
        _, client = listener.recvfrom(64)
        listener.sendto(VERSION.encode(), client)


def serve(number):
    listener = socket.socket(fileno=3 + number)
    if listener.type == socket.SOCK_DGRAM:
        return answer(listener)
    while (FOLDER / f"deaf-{VERSION}-{number}").exists():
        time.sleep(0.02)
    server = Server(("", 0), Handler, bind_and_activate=False)
    server.socket = listener
    server.serve_forever()


threads = [threading.Thread(target=serve, args=(n,)) for n in range(int(os.environ["LISTEN_FDS"]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
