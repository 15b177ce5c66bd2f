#!/usr/bin/python3
"""Asks a server without a pause until a file is there, and counts what was lost: refused, reset, timed out, cut
short, or not answered with 200. Nobody asks twice.

  load.py NAME PORT PATH ENDS [CUT]

A kept connection on which nothing is under way may be closed by a server that ends, which is counted apart: at most
once for each client that keeps one, and for each of the ENDS generations that end meanwhile. CUT requests may be cut
short, for a server that is killed with what it has accepted; to be refused, or to wait in vain, is lost even then.

/run/load/NAME.count has how many were answered so far; at the end one line says all. It ends once /run/load/stop
is there.
"""
import http.client
import os
import sys
import threading
import time

NAME, PORT, PATH, ENDS = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
CUT = int(sys.argv[5]) if len(sys.argv) > 5 else 0
STOP = "/run/load/stop"
CLIENTS = 4
KEPT = 2  # of these ask again and again over one connection
PATIENCE = 20


class Client(threading.Thread):
    def __init__(self, kept):
        super().__init__()
        self.kept, self.answered, self.idle_ends, self.cut, self.lost = kept, 0, 0, 0, {}
        self.connection, self.asked = None, 0

    def connect(self):
        self.connection, self.asked = http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE), 0

    def ask(self):
        if self.connection is None:
            self.connect()
        try:
            self.connection.request("GET", PATH, headers={} if self.kept else {"Connection": "close"})
            answer = self.connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise ValueError(answer.status)
            self.answered += 1
            self.asked += 1
            if self.kept and not answer.will_close:
                return
        except Exception as error:
            # A server may close a connection on which nothing is under way just as the next request is sent.
            ended = isinstance(error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError))
            if self.asked and ended:
                self.idle_ends += 1
            elif CUT and ended:
                self.cut += 1
            else:
                self.lost[repr(error)] = self.lost.get(repr(error), 0) + 1
        self.connection.close()
        self.connection = None

    def run(self):
        while not os.path.exists(STOP):
            self.ask()
            # Two processors are few: the servers are to have some of them.
            time.sleep(0.002)


clients = [Client(number < KEPT) for number in range(CLIENTS)]
for client in clients:
    client.start()


def put(text):
    path = f"/run/load/{NAME}.count"
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


while any(client.is_alive() for client in clients):
    clients[0].join(0.05)
    put(str(sum(client.answered for client in clients)))
lost = {}
for client in clients:
    for what, times in client.lost.items():
        lost[what] = lost.get(what, 0) + times
idle_ends, cut = sum(client.idle_ends for client in clients), sum(client.cut for client in clients)
print(
    f"{NAME}: {sum(client.answered for client in clients)} answered, {sum(lost.values())} lost, "
    f"{idle_ends} idle connections ended (at most {KEPT * ENDS}), {cut} cut short (at most {CUT}) {lost or ''}"
)
sys.exit(1 if lost or idle_ends > KEPT * ENDS or cut > CUT else 0)
