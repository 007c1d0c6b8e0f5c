"""A raw HTTP/1.1 client: it sends the bytes it is told to and reads strictly what comes back."""
import contextlib
import os
import socket
import ssl
import threading
import time

from gateway import SAFETY_SECONDS


class Closed(Exception):
    """The connection ended before a byte of an answer."""


class Truncated(Exception):
    """The connection ended within an answer."""

    def __init__(self, message, got=b'', status=None):
        super().__init__(message)
        self.got, self.status = got, status


class Response:
    def __init__(self, version, status, reason, fields):
        self.version, self.status, self.reason, self.fields = version, status, reason, fields
        self.body, self.trailers, self.interim = b'', [], []

    def get(self, name):
        values = self.all(name)
        return ', '.join(values) if values else None

    def all(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    @property
    def text(self):
        return self.body.decode()

    @property
    def is_last(self):
        return (self.get('Connection') or '').lower() == 'close' or self.version == 'HTTP/1.0'


def tls_context(root=None, alpn=('http/1.1',), least=None, most=None):
    context = ssl.create_default_context(cafile=root) if root else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not root:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if least:
        context.minimum_version = least
    if most:
        context.maximum_version = most
    return context


class Client:
    """One connection. tls: an ssl.SSLContext; name: SNI and the default Host."""

    def __init__(self, port, tls=None, name='localhost', address='127.0.0.1', session=None, timeout=SAFETY_SECONDS):
        self.name, self.port, self.is_tls = name, port, tls is not None
        self.socket = socket.create_connection((address, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.is_over = b'', False
        if tls:
            try:
                self.socket = tls.wrap_socket(self.socket, server_hostname=name, session=session)
            except BaseException:
                self.socket.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.close()

    def reset(self):
        """Ends it with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def request(self, method, target, *fields, body=None, host=None, version='HTTP/1.1'):
        """Sends a request; fields are whole lines."""
        lines = [f'{method} {target} {version}', f'Host: {host or self.name}', *fields]
        if body is not None and not any(f.lower().startswith(('content-length', 'transfer-enc')) for f in fields):
            lines.append(f'Content-Length: {len(body)}')
        self.send('\r\n'.join(lines).encode() + b'\r\n\r\n' + (body or b''))

    def get(self, target, *fields, method='GET', body=None, host=None):
        self.request(method, target, *fields, body=body, host=host)
        return self.response(method)

    # ---- reading

    def more(self):
        """False at the end of the connection."""
        try:
            data = self.socket.recv(1 << 18)
        except (ConnectionError, ssl.SSLError) as error:
            if isinstance(error, (TimeoutError, ssl.SSLWantReadError)):
                raise
            self.is_over = True
            raise Truncated(f'{error}', self.buffer) from error
        self.buffer += data
        self.is_over = self.is_over or not data
        return bool(data)

    def line(self):
        while b'\r\n' not in self.buffer:
            if not self.more():
                if self.buffer:
                    raise Truncated('in a line', self.buffer)
                raise Closed()
        line, _, self.buffer = self.buffer.partition(b'\r\n')
        assert b'\n' not in line and b'\r' not in line, line
        return line.decode('latin-1')

    def fields(self):
        fields = []
        while True:
            line = self.line()
            if not line:
                return fields
            name, colon, value = line.partition(':')
            assert colon and name and name == name.strip(), line
            fields.append((name, value.strip()))

    def exactly(self, count, sink=None):
        taken, left = [], count
        while left:
            if not self.buffer and not self.more():
                raise Truncated(f'{count - left} of {count} bytes', b''.join(taken))
            part, self.buffer = self.buffer[:left], self.buffer[left:]
            left -= len(part)
            (sink or taken.append)(part)
        return b''.join(taken)

    def head(self):
        interim = []
        while True:
            line = self.line()
            version, status, reason = (line + ' ').split(' ', 2)
            assert version in ('HTTP/1.1', 'HTTP/1.0') and len(status) == 3, line
            response = Response(version, int(status), reason.strip(), self.fields())
            if response.status >= 200 or response.status == 101:
                response.interim = interim
                return response
            interim.append(response)

    def chunks(self, sink=None):
        body = []
        while True:
            size = int(self.line().partition(';')[0], 16)
            if not size:
                return b''.join(body), self.fields()
            body.append(self.exactly(size, sink))
            assert self.exactly(2) == b'\r\n'

    def response(self, method='GET', sink=None):
        response = self.head()
        if method == 'HEAD' or response.status in (101, 204, 304):
            return response
        lengths = response.all('Content-Length')
        try:
            if response.get('Transfer-Encoding'):
                assert response.get('Transfer-Encoding').lower() == 'chunked' and not lengths, response.fields
                response.body, response.trailers = self.chunks(sink)
            elif lengths:
                assert len(lengths) == 1, lengths
                response.body = self.exactly(int(lengths[0]), sink)
            else:
                assert response.is_last, response.fields
                while self.more():
                    pass
                response.body, self.buffer = self.buffer, b''
        except (Truncated, Closed) as error:
            raise Truncated(str(error), getattr(error, 'got', b''), response.status) from error
        return response

    def expect_end(self):
        """Nothing more comes: the connection was closed (or reset)."""
        with contextlib.suppress(Truncated):
            while self.more():
                pass
        assert self.is_over and not self.buffer, self.buffer


def get(port, target='/', *fields, **options):
    """One request on its own connection."""
    method, body, host = options.pop('method', 'GET'), options.pop('body', None), options.pop('host', None)
    with Client(port, **options) as client:
        return client.get(target, *fields, method=method, body=body, host=host)


class Load:
    """Threads with kept-alive connections that ask for /<token> and check what they get.

    `failed` lists what went wrong. A kept-alive connection that ends where an answer should begin is a
    failure, unless may_retry: then the request is sent once more on a fresh connection, as browsers do,
    and counted in `retried`. `closed`: answers that ended a connection which would have been kept."""

    def __init__(self, port, threads=4, tls=None, name='localhost', path='/load/', expect=None, may_retry=False, pause=0.002,
                 requests_per_connection=40):
        self.port, self.tls, self.name, self.path = port, tls, name, path
        self.expect = expect or (lambda response, token: response.status == 200)
        self.may_retry, self.pause, self.per_connection = may_retry, pause, requests_per_connection
        self.done, self.failed, self.retried, self.closed, self.tokens = 0, [], 0, 0, []
        self.lock, self.over = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(threads)]
        self.run_id = os.urandom(3).hex()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.wait_for(len(self.threads) * 2)
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(SAFETY_SECONDS + 5)

    def wait_for(self, more):
        """Until this many more were answered (or failed)."""
        start, end = self.done + len(self.failed), time.monotonic() + SAFETY_SECONDS
        while self.done + len(self.failed) < start + more:
            assert time.monotonic() < end, f'only {self.done} answered, {self.failed[:5]}'
            time.sleep(0.01)

    def one(self, client, token):
        response = client.get(self.path + token)
        if not self.expect(response, token):
            raise AssertionError(f'{response.status} {response.body[:80]}')
        return response

    def run(self, number):
        client, count, used = None, 0, 0
        while not self.over.is_set():
            token = f'{self.run_id}-{number}-{count}'
            count += 1
            try:
                if not client:
                    client, used = Client(self.port, self.tls, self.name), 0
                try:
                    response = self.one(client, token)
                except (Closed, Truncated) as error:
                    if not self.may_retry or not used or getattr(error, 'got', b'') or getattr(error, 'status', None):
                        raise
                    client.close()
                    client, used = Client(self.port, self.tls, self.name), 0
                    with self.lock:
                        self.retried += 1
                    response = self.one(client, token)
                used += 1
                with self.lock:
                    self.done += 1
                    self.tokens.append(token)
                    self.closed += response.is_last
                if response.is_last or used >= self.per_connection:
                    client.close()
                    client = None
            except Exception as error:  # whatever it was, this request failed
                with self.lock:
                    self.failed.append(f'{token} ({used} before): {type(error).__name__} {error}')
                if client:
                    client.close()
                client = None
            time.sleep(self.pause)
        if client:
            client.close()
