"""Answers with its generation at each of its listeners. At SIGUSR1 it does to them what the file says that it is given."""
import os
import select
import signal
import socket
import sys

GENERATION = os.environ["SUPD_GENERATION"].encode()
listeners = [socket.socket(fileno=3 + at) for at in range(int(os.environ["LISTEN_FDS"]))]
SO_BINDTODEVICE = 25


def act(*_):
    orders = open(sys.argv[1]).read().split()
    for sock in listeners:
        datagrams, path = sock.type == socket.SOCK_DGRAM, sock.family == socket.AF_UNIX
        if "tie" in orders and datagrams:
            sock.connect(("127.0.0.1", 9))
        if "device" in orders and not path:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"lo\0")
        if "shut" in orders and path:
            sock.shutdown(socket.SHUT_RDWR)
    if "die" in orders:
        os._exit(1)
    os.rename(sys.argv[1], sys.argv[1] + ".done")


signal.signal(signal.SIGUSR1, act)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.send(b"READY=1")
for listener in listeners:
    listener.setblocking(False)
while True:
    try:
        for sock in select.select(listeners, [], [], 0.2)[0]:
            if sock.type == socket.SOCK_DGRAM:
                _, who = sock.recvfrom(100)
                sock.sendto(GENERATION, who)
            else:
                client, _ = sock.accept()
                client.sendall(GENERATION)
                client.close()
    except OSError:
        pass
