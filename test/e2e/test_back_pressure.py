"""Back-pressure: who reads slowly slows who sends, and what the gateway holds in between has a bound.

50 readers of 1 GiB that do not read, 50 uploads to an origin that does not read, and both at once, with and without
TLS: all workers together grow by at most 128 KiB a connection, and the sender at the other end stalls: what it could
write stands still. A slice of fewer connections runs in every test run; the full size is the soak's. The program
without sanitizers is measured: theirs keep what was freed."""
import contextlib
import os
import socket
import threading
import time

import pytest

from client import Client, tls_context
from gateway import ROOT, SOAK, Gateway, Process, is_sanitized, program, wait_until

COUNT = 50 if SOAK else 20
SIZE = 1 << 30
PER_CONNECTION = 128 << 10
# What the kernel's own buffers between two of our sockets may take beside what the gateway holds (tcp_wmem, tcp_rmem).
KERNEL = 16 << 20
RELEASE = os.path.join(ROOT, 'build/portcullis')


class Origin:
    """Sends as much as it can where it was asked for /down/, never reads where for /up/; `sent` has its bytes."""

    def __init__(self):
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=256)
        self.port, self.sent, self.held, self.lock = self.listener.getsockname()[1], {}, [], threading.Lock()
        self.over = threading.Event()

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.listener.close()
        for one in self.held:
            one.close()

    def accept(self):
        while not self.over.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.held.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        head = b''
        while b'\r\n\r\n' not in head:
            data = connection.recv(4096)
            if not data:
                return
            head += data
        name = head.split(b' ')[1].decode()
        self.sent[name] = 0
        if name.startswith('/up/'):
            self.over.wait()
            return
        block = b'a' * 65536
        try:
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % SIZE)
            while self.sent[name] < SIZE and not self.over.is_set():
                self.sent[name] += connection.send(block)
        except OSError:
            pass


class Peers:
    """Clients that read nothing (down) or send all they can (up)."""

    def __init__(self, port, tls=None):
        self.tls = tls
        self.port, self.sockets, self.threads, self.uploaded, self.over = port, [], [], {}, threading.Event()

    def connect(self, head):
        one = socket.create_connection(('127.0.0.1', self.port), 30)
        if self.tls:
            one = self.tls.wrap_socket(one, server_hostname='localhost')
        self.sockets.append(one)
        one.sendall(head)
        return one

    def start_down(self, count):
        for i in range(count):
            self.connect(b'GET /down/%d HTTP/1.1\r\nHost: localhost\r\n\r\n' % i)

    def start_up(self, count):
        for i in range(count):
            one = self.connect(b'POST /up/%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n' % (i, SIZE))
            self.threads.append(threading.Thread(target=self.upload, args=(one, f'/up/{i}'), daemon=True))
            self.threads[-1].start()

    def upload(self, one, name):
        block = b'a' * 65536
        self.uploaded[name] = 0
        one.settimeout(None)
        try:
            while self.uploaded[name] < SIZE and not self.over.is_set():
                self.uploaded[name] += one.send(block)
        except OSError:
            pass

    def close(self):
        """By reset: an orderly end would wait behind what nobody reads."""
        self.over.set()
        for one in self.sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)  # what waits in send() returns; no close_notify
        for thread in self.threads:
            thread.join(30)
        for one in self.sockets:
            one.close()


def warm(gateway, tls):
    """The pages of the program itself, and of its buffers, are counted before."""
    for i in range(8 * len(gateway.pids('worker'))):
        with Client(gateway.port, tls) as client:
            client.request('GET', f'/down/warm-{i}')
            assert client.head().status == 200
            client.exactly(1 << 20, sink=lambda data: None)
            client.reset()


def wait_for_stall(measure, count):
    """Until what was sent stands still for as long as it took to get there; its figures."""
    end, last, still = time.monotonic() + 60, None, 0
    while still < 10:
        now = measure()
        still = still + 1 if len(now) == count and now == last and min(now.values()) > 0 else 0
        assert time.monotonic() < end, f'it does not stall: {now}'
        last = now
        time.sleep(0.2)
    return last


def connections(gateway):
    return sum(row['connections'] for row in gateway.status() if row['process'] == 'worker')


@pytest.mark.soak
@pytest.mark.parametrize('tls', [None, tls_context()], ids=['plain', 'tls'])
@pytest.mark.parametrize('down, up', [(COUNT, 0), (0, COUNT), (COUNT, COUNT)], ids=['readers', 'uploads', 'both'])
def test_back_pressure(down, up, tls):
    if tls and not SOAK and not (down and up):
        pytest.skip('soak: runs by `make soak`')
    executable = RELEASE if os.access(RELEASE, os.X_OK) else program()
    with Origin() as origin, Gateway(
            f'listen 127.0.0.1:{{port}}{"" if tls else " plain serve"}\nlimits {{ send-gap 10m first-byte 10m body-gap 10m }}\n'
            f'site localhost {{ proxy 127.0.0.1:{origin.port} }}\nlog access off', executable=executable) as gateway:
        workers = gateway.pids('worker')
        warm(gateway, tls)
        wait_until(lambda: not connections(gateway), 'the first connections to end')
        origin.sent.clear()
        before = {pid: Process(pid).memory_bytes() for pid in workers}
        peers = Peers(gateway.port, tls)
        try:
            peers.start_down(down)
            peers.start_up(up)
            sent = wait_for_stall(lambda: {name: n for name, n in origin.sent.items() if n}, down) if down else {}
            uploaded = wait_for_stall(lambda: dict(peers.uploaded), up) if up else {}
            grown = sum(Process(pid).memory_bytes() - before[pid] for pid in workers)
        finally:
            peers.close()
        print(f'figures: {down} down, {up} up{", TLS" if tls else ""}: workers grew by {grown >> 10} KiB, '
              f'{grown // (down + up) >> 10} a connection; the origin could send {max(sent.values(), default=0) >> 10} KiB, '
              f'a client {max(uploaded.values(), default=0) >> 10} KiB at most')
        assert all(n < KERNEL for n in sent.values()) and all(n < KERNEL for n in uploaded.values()), (sent, uploaded)
        if executable == RELEASE or not is_sanitized():
            assert grown <= PER_CONNECTION * (down + up), (grown, down, up)
        wait_until(lambda: not connections(gateway), gateway.status)
