"""A server that is bad: so many requests are answered, one after the other, and then it is dead. It dies
between two of them, so that nothing that it has accepted goes with it, and says how many waited."""
import os
import signal
import socket
import sys
import time

version, how, requests = sys.argv[1], sys.argv[2], int(sys.argv[3])
body = "." * 1000
answer = (
    f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nX-Served-By: {version}/{os.getpid()}\r\n"
    f"Connection: close\r\n\r\n{body}"
).encode()
listener = socket.socket(fileno=3)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supd:
    supd.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])

for _ in range(requests):
    connection, _ = listener.accept()
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    time.sleep(0.01)    # so that there is a queue
    connection.sendall(answer)
    connection.close()

# tcpi_unacked (tcp(7)): of a socket that listens, how many wait to be accepted.
info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
print(f"waiting: {int.from_bytes(info[24:28], sys.byteorder)}", flush=True)
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(3)
