"""A server that ends each connection before it works on, so that it holds none when it is looked at.

closing.py VERSION SECONDS: it answers one request, closes, and then works for so long.
"""

import os
import socket
import sys
import time

VERSION, TAKES = sys.argv[1], float(sys.argv[2])
ANSWER = (
    f"HTTP/1.1 200 OK\r\nContent-Length: {len(VERSION)}\r\nX-Served-By: {VERSION}/{os.getpid()}\r\n"
    f"Connection: close\r\n\r\n{VERSION}"
).encode()


def serve(connection):
    asked = b""
    while b"\r\n\r\n" not in asked:
        some = connection.recv(4096)
        if not some:
            return
        asked += some
    connection.sendall(ANSWER)


listener = socket.socket(fileno=3)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    connection, _ = listener.accept()
    with connection:
        try:
            serve(connection)
        except OSError:
            pass
    time.sleep(TAKES)
