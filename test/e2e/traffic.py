"""Traffic of the long tests: an application, and clients that can tell whether what they got is right to the last byte.

Not asserted here: each client says what it got, the test judges."""
import base64
import contextlib
import glob
import hashlib
import re
import threading
import time

from client import Client, Closed, Truncated
from gateway import SAFETY_SECONDS

PIECE = 1 << 16


def content(name, size):
    """Bytes that are nobody else's; a block that repeats is of no round length."""
    block = hashlib.shake_128(name.encode()).digest(min(size, (1 << 20) - 13))
    return (block * (size // len(block) + 1))[:size] if block else b''


def pieces_of(data):
    return (data[i:i + PIECE] for i in range(0, len(data), PIECE))


# ---- The application

def serve_socket(exchange):
    key = (exchange.get('Sec-WebSocket-Key') or '') + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    exchange.send(f'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n')
    data = exchange.buffer
    while data or (data := exchange.connection.recv(PIECE)):
        exchange.send(data)
        data = b''
    return False


def serve_events(exchange, count, pause):
    exchange.send('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n')
    for i in range(count):
        event = f'data: {i}\n\n'.encode()
        exchange.send(b'%x\r\n%b\r\n' % (len(event), event))
        time.sleep(pause)
    exchange.send('0\r\n\r\n')
    return True


class Application:
    """`behave` of an Origin, at / and at /app. Its word is in what it answers, so that one origin can be told from another."""

    def __init__(self, word='app'):
        self.word = word

    def __call__(self, exchange):
        words = exchange.target.partition('?')[0].removeprefix('/app').split('/')[1:]
        if words[0] == 'socket':
            return serve_socket(exchange)
        if words[0] == 'events':
            return serve_events(exchange, int(words[1]), float(words[2]))
        if words[0] == 'body':
            body = content(words[1], int(words[2]))
            exchange.send(f'HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n')
            for piece in pieces_of(body):
                exchange.send(piece)
            return True
        if words[0] == 'upload':
            digest = hashlib.sha256()
            for piece in exchange.pieces():
                digest.update(piece)
            return exchange.reply(200, digest.hexdigest())
        exchange.read_body()
        return exchange.reply(200, f"{self.word} {words[-1]}")


# ---- Clients

class WebSocket:
    """A tunnel whose other end says again what it hears."""

    def __init__(self, client, path='/app/socket'):
        self.client, self.said = client, 0
        client.request('GET', path, 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13',
                       'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==')
        head = client.head()
        if head.status != 101:
            raise AssertionError(f'no WebSocket: {head.status}')

    def say(self, size=100):
        """Whether it came back."""
        self.said += 1
        data = content(f'{id(self)} {self.said}', size)
        self.client.send(data)
        return self.client.exactly(size) == data


class Download(threading.Thread):
    """Of SIZE bytes, but only as far as it may: so it is under way for as long as the test wants it to be."""

    def __init__(self, client, path, size):
        super().__init__(daemon=True)
        self.client, self.path, self.size = client, path, size
        self.allowed, self.got, self.digest, self.failure = 0, 0, hashlib.sha256(), None
        self.moved = threading.Condition()

    def allow(self, part):
        """Up to this part of it, and waits until that is here (or it failed)."""
        with self.moved:
            self.allowed = int(self.size * part)
            self.moved.notify_all()
            assert self.moved.wait_for(lambda: self.failure or self.got >= self.allowed, SAFETY_SECONDS + 30), self.got
        return not self.failure

    def run(self):
        try:
            self.client.request('GET', self.path)
            head = self.client.head()
            assert head.status == 200 and int(head.get('Content-Length')) == self.size, (head.status, head.fields)
            while self.got < self.size:
                with self.moved:
                    self.moved.wait_for(lambda: self.allowed > self.got)
                self.client.exactly(min(1 << 20, self.allowed - self.got), self.count)
        except (OSError, AssertionError, Closed, Truncated) as error:
            with self.moved:
                self.failure = f'{type(error).__name__} {error} at {self.got}'
                self.moved.notify_all()

    def count(self, data):
        self.digest.update(data)
        with self.moved:
            self.got += len(data)
            self.moved.notify_all()


# ---- What processes hold

def descriptors_of(pid):
    return len(glob.glob(f'/proc/{pid}/fd/*'))


def pss_kib(pid):
    with open(f'/proc/{pid}/smaps_rollup', encoding='utf-8') as file:
        return int(re.search(r'^Pss:\s+(\d+)', file.read(), re.M)[1])


def snapshots_of(pid):
    """Configurations that a process has mapped: each has a memory file of its own."""
    with open(f'/proc/{pid}/maps', encoding='utf-8') as file:
        return len({line.split()[4] for line in file if '/memfd:snapshot' in line})


def held(gateway):
    """{what a process is called: (descriptors, PSS in KiB)}, of the supervisor too."""
    found = {}
    for role, pid in [('supervisor', gateway.process.pid), *gateway.roles().items()]:
        with contextlib.suppress(OSError):
            found[role] = descriptors_of(pid), pss_kib(pid)
    return found

