"""A UDP echo on the inherited descriptor 3: answers with who it is, and what it was sent."""
import os
import pathlib
import select
import signal
import socket

from notify import notify

VERSION = (pathlib.Path(__file__).parent / "version").read_text().strip()
WHO = f"{VERSION}/{os.getpid()} ".encode()

# The signal wakes select(2) through this pair; between two datagrams is where this server ends.
wake, woken = socket.socketpair()
wake.setblocking(False)
signal.set_wakeup_fd(wake.fileno())
signal.signal(signal.SIGTERM, lambda *_: None)

server = socket.socket(fileno=3)
# Two generations read one socket: select may tell both of one datagram, and only one gets it.
server.setblocking(False)
notify("READY=1")
while True:
    readable, _, _ = select.select([server, woken], [], [])
    if woken in readable:
        break
    try:
        data, peer = server.recvfrom(2048)
    except BlockingIOError:
        continue
    server.sendto(WHO + data, peer)
