"""A UDP echo on the socket that supd lends: answers with who it is, and what it was sent."""
import os
import select
import signal
import socket

VERSION = "1"
WHO = f"{VERSION}/{os.getpid()} ".encode()


def notify(message):
    """sd_notify(3): one datagram."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supd:
        supd.sendto(message.encode(), os.environ["NOTIFY_SOCKET"])


# Descriptor 3, if it is meant for this process and was not inherited by mistake.
if os.environ.get("LISTEN_PID") != str(os.getpid()):
    raise SystemExit("start me under supd")
server = socket.socket(fileno=3)
# With Workers = 2 they read one socket: select may tell both of one datagram, and only one gets it.
server.setblocking(False)

# The signal wakes select through this pair; between two datagrams is where this server ends.
wake, woken = socket.socketpair()
wake.setblocking(False)
signal.set_wakeup_fd(wake.fileno())
signal.signal(signal.SIGTERM, lambda *_: None)

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
