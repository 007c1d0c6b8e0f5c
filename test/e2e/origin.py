"""An origin that does what a test tells it, bytes and all.

    def behave(exchange):            # called in a thread of the connection for each request
        exchange.reply(200, b'text')
        return True                  # keep the connection; False closes it
    with Origin(behave) as origin: … origin.port, origin.requests"""
import contextlib
import hashlib
import json
import os
import socket
import threading


class Exchange:
    """One request, and what answers it."""

    def __init__(self, origin, connection, number, data):
        self.origin, self.connection, self.number, self.buffer = origin, connection, number, data
        self.body, self.trailers = None, []

    def fill(self):
        data = self.connection.recv(1 << 18)
        self.buffer += data
        return bool(data)

    def read_head(self):
        while b'\r\n\r\n' not in self.buffer:
            if not self.fill():
                return False
        head, _, self.buffer = self.buffer.partition(b'\r\n\r\n')
        lines = head.decode('latin-1').split('\r\n')
        self.raw = head
        self.method, self.target, self.version = lines[0].split(' ')
        self.fields = [(n, v.strip()) for n, _, v in (line.partition(':') for line in lines[1:])]
        return True

    def all(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def get(self, name):
        return ', '.join(self.all(name)) if self.all(name) else None

    def take(self, count):
        while len(self.buffer) < count:
            if not self.fill():
                raise ConnectionError('within a body')
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def take_line(self):
        while b'\r\n' not in self.buffer:
            if not self.fill():
                raise ConnectionError('within a line')
        line, _, self.buffer = self.buffer.partition(b'\r\n')
        return line

    def pieces(self):
        """The request's body, as it comes."""
        if (self.get('Transfer-Encoding') or '').lower() == 'chunked':
            while True:
                size = int(self.take_line().partition(b';')[0], 16)
                if not size:
                    break
                yield self.take(size)
                self.take(2)
            while True:
                line = self.take_line()
                if not line:
                    return
                self.trailers.append(line.decode())
        left = int(self.get('Content-Length') or 0)
        while left:
            if not self.buffer and not self.fill():
                raise ConnectionError('within a body')
            piece, self.buffer = self.buffer[:left], self.buffer[left:]
            left -= len(piece)
            yield piece

    def read_body(self):
        if self.body is None:
            self.body = b''.join(self.pieces())
        return self.body

    def send(self, data):
        self.connection.sendall(data.encode() if isinstance(data, str) else data)

    def reply(self, status=200, body=b'', *fields, length=True):
        body = body.encode() if isinstance(body, str) else body
        lines = [f'HTTP/1.1 {status} Whatever', *fields] + ([f'Content-Length: {len(body)}'] if length else [])
        self.send('\r\n'.join(lines).encode() + b'\r\n\r\n' + (b'' if self.method == 'HEAD' else body))
        return True

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        self.connection.close()
        return False


def describe(exchange):
    """The ordinary answer: the request as JSON."""
    body = exchange.read_body()
    return exchange.reply(200, json.dumps({
        'method': exchange.method, 'target': exchange.target, 'version': exchange.version, 'fields': exchange.fields,
        'length': len(body), 'sha256': hashlib.sha256(body).hexdigest(), 'trailers': exchange.trailers,
    }), 'Content-Type: application/json')


class Origin:
    def __init__(self, behave=describe, tls=None, unix=None, port=0, backlog=128, address='127.0.0.1'):
        self.behave, self.tls, self.unix = behave, tls, unix
        self.requests, self.connection_count, self.lock = [], 0, threading.Lock()
        self.connections = set()
        if unix:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(unix)
            os.chmod(unix, 0o666)
        else:
            self.listener = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((address, port))
            self.port = self.listener.getsockname()[1]
        self.listener.listen(backlog)

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            connections = list(self.connections)
        for one in connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError, ValueError), connection:
            connection.settimeout(60)
            if not self.unix:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with self.lock:
                self.connection_count += 1
                self.connections.add(connection)
            number, rest = 0, b''
            while True:
                exchange = Exchange(self, connection, number, rest)
                if not exchange.read_head():
                    break
                with self.lock:
                    self.requests.append(exchange)
                if not self.behave(exchange):
                    break
                rest, number = exchange.buffer, number + 1
            with contextlib.suppress(OSError):
                connection.close()
        with self.lock:
            self.connections.discard(connection)
