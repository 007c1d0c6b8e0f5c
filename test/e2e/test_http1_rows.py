"""The rows "HTTP/1" of the threat model (SECURITY.md) on the running program: request smuggling against real backends,
chunks, header limits, pipelining, Host, upgrades, and what an origin may make of an answer."""
import contextlib
import itertools
import os
import re
import socket
import subprocess
import threading

import pytest

from client import Client, Closed, Truncated, get
from gateway import ROOT, Gateway, Process, free_port, is_sanitized, program, wait_until
from origin import Origin

PLAIN = 'listen 127.0.0.1:{port} plain serve\n'
RELEASE = os.path.join(ROOT, 'build/portcullis')


def answers_to(port, data):
    """The statuses that come back for these bytes, until the connection ends."""
    statuses = []
    with Client(port) as client:
        with contextlib.suppress(OSError):
            client.send(data)
            client.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(Closed, Truncated, ConnectionError):
            while True:
                statuses.append(client.response('HEAD' if data.startswith(b'HEAD') else 'GET').status)
    return statuses


# ---- CL.TE, TE.CL, TE.TE, CL.CL, 0.CL, CL.0

LENGTHS = [b'', b'Content-Length: 0', b'Content-Length: 5', b'Content-Length: LEN', b'Content-Length: +5', b'Content-Length: 5, 5', b'Content-Length : 5',
           b'Content-Length: 5\r\nContent-Length: 6', b'Content-Length: 5\r\nContent-Length: 5', b'Content-Length:\t5', b'Content-Length: 0x5',
           b'Content-Length: 5 ', b'Content-Length: 05', b'X: y\rContent-Length: 5', b'\x0bContent-Length: 5', b'Content_Length: 5']
CODINGS = [b'', b'Transfer-Encoding: chunked', b'Transfer-Encoding: Chunked', b'Transfer-Encoding : chunked', b'Transfer-Encoding: xchunked',
           b'Transfer-Encoding: chunked, identity', b'Transfer-Encoding: identity', b'Transfer-Encoding: chunked\r\nTransfer-Encoding: x',
           b'Transfer-Encoding:\x0bchunked', b'Transfer-Encoding: "chunked"', b'Transfer-Encoding:\r\n chunked', b'Transfer_Encoding: chunked']
METHODS = [b'POST', b'GET', b'HEAD', b'OPTIONS']


CHUNKED = b'Host: localhost\r\nTransfer-Encoding: chunked\r\n'
POST, INNER = b'POST /case-N HTTP/1.1\r\n', b'GET /smuggled-N HTTP/1.1\r\nHost: localhost\r\nX: '
# Ways to end a line, to write a chunk and to take a field out that two readers may read differently. N: the case's number.
FORMS = [
    # obs-fold
    POST + b'Host: localhost\r\nX: y\r\n Content-Length: 99\r\n\r\n' + INNER,
    POST + b'Host: localhost\r\nContent-Length:\r\n 99\r\n\r\n' + INNER,
    POST + b'Host: localhost\r\nContent-Length: 9\r\n 9\r\n\r\n' + INNER,
    POST + b'Host: localhost\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n' + INNER,
    POST + b'Host: localhost\r\nTransfer-Encoding: x\r\n\tchunked\r\n\r\n0\r\n\r\n' + INNER,
    # bare LF, bare CR, NUL
    POST + b'Host: localhost\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' + INNER,
    POST + b'Host: localhost\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' + INNER,
    POST + b'Host: localhost\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' + INNER,
    POST + b'Host: localhost\r\nContent-Length: 99\n\n' + INNER,
    POST + b'Host: localhost\r\nContent-Length: 9\0\r\n\r\n' + INNER,
    POST + b'Host: localhost\r\nTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n' + INNER,
    b'POST /case-N HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n' + INNER,
    b'POST /case-N HTTP/1.1\r\r\nHost: localhost\r\n\r\n' + INNER,
    # chunks: extensions that end early (TERM.EXT, EXT.TERM), spill, sizes
    POST + CHUNKED + b'\r\n2;\nxx\r\n63\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n2;x\n\r\nxx\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n2;x="\r\nxx\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n2;x="\r\n"\r\nxx\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n2;x\rxx\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n2\r\nxx\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n2\r\nxxxx0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n2\nxx\n0\n\n' + INNER,
    POST + CHUNKED + b'\r\n0_2\r\nxx\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n0x2\r\nxx\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n+2\r\nxx\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n-1\r\nxx\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n 2\r\nxx\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n2 \r\nxx\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n10000000000000002\r\nxx\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n\r\n0\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n0\r\n\n' + INNER,
    POST + CHUNKED + b'\r\n0\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n0;x\r\nContent-Length: 99\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n0\r\nTransfer-Encoding: chunked\r\nHost: other\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n0\r\nX: y\nZ: GET /smuggled-N HTTP/1.1\r\n\r\n' + INNER,
    POST + CHUNKED + b'\r\n2;GET /smuggled-N HTTP/1.1\r\nxx\r\n0\r\n\r\n' + INNER,  # taken, without its extension
    # fields that Connection names
    POST + CHUNKED + b'Connection: Transfer-Encoding\r\n\r\n0\r\n\r\n' + INNER,
    POST + b'Host: localhost\r\nContent-Length: 36\r\nConnection: keep-alive, Content-Length\r\n\r\n' + INNER,
    POST + b'Host: localhost\r\nContent-Length: 36\r\nConnection: host, x\r\n\r\n' + INNER,
    # versions and expectations
    b'POST /case-N HTTP/1.0\r\n' + CHUNKED + b'\r\n0\r\n\r\n' + INNER,
    b'POST /case-N HTTP/1.0\r\n' + CHUNKED + b'Connection: keep-alive\r\n\r\n0\r\n\r\n' + INNER,
    b'POST /case-N HTTP/1.2\r\n' + CHUNKED + b'\r\n0\r\n\r\n' + INNER,
    b'POST /case-N HTTP/1.1 \r\n' + CHUNKED + b'\r\n0\r\n\r\n' + INNER,
    b'POST /case-N\r\n' + CHUNKED + b'\r\n0\r\n\r\n' + INNER,
    POST + b'Host: localhost\r\nExpect: 100-continue\r\nContent-Length: 36\r\n\r\n' + INNER,
    POST + CHUNKED + b'Expect: 100-continue\r\n\r\n0\r\n\r\n' + INNER,
    b'GET /case-N HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\nContent-Length: 36\r\n\r\n' + INNER,
    # whose request it is, and what an upgrade leaves behind
    b'GET http://localhost/case-N HTTP/1.1\r\nHost: other\r\n\r\n' + INNER,
    b'GET /case-N HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n' + INNER,
    b'GET /case-N HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n' + INNER,
    b'GET /case-N HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 36\r\n\r\n' + INNER,
    b'GET /case-N HTTP/1.1\r\nHost: localhost\r\nX: %0d%0a%0d%0aGET /x\r\n\r\n' + INNER,
    b'GET /case-N%0d%0aX:%20y HTTP/1.1\r\nHost: localhost\r\n\r\n' + INNER,
    b'\r\n\r\nGET /case-N HTTP/1.1\r\nHost: localhost\r\n\r\n' + INNER,
    b'CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n' + INNER,
]


def corpus():
    """Each framing with each coding and method, and each form; a second request stands where another reader would find
    one."""
    for number, (method, length, coding) in enumerate(itertools.product(METHODS, LENGTHS, CODINGS)):
        inner = b'GET /smuggled-%d HTTP/1.1\r\nHost: localhost\r\nX: ' % number
        body = b'0\r\n\r\n' + inner if coding else inner
        fields = [f for f in (length.replace(b'LEN', b'%d' % len(body)), coding) if f]
        head = b'\r\n'.join([b'%s /case-%d HTTP/1.1' % (method, number), b'Host: localhost', *fields]) + b'\r\n\r\n'
        yield number, head + body + b'GET /behind-%d HTTP/1.1\r\nHost: localhost\r\n\r\n' % number
    for number, form in enumerate(FORMS, 10000):
        yield number, (form + b'\r\n\r\nGET /behind-N HTTP/1.1\r\nHost: localhost\r\n\r\n').replace(b'-N', b'-%d' % number)


class Seen:
    """The requests that a backend saw, by path, in a file or on its standard output."""

    def __init__(self, process, lines):
        self.process, self.lines = process, lines

    def paths(self):
        return sorted(re.findall(r'/(?:case|smuggled|behind|probe)-\d+', ''.join(list(self.lines()))))


NODE = '''
const http = require('http');
http.createServer((request, response) => { console.log(request.url); request.on('data', () => {}); request.on('end', () => response.end('node')); })
  .listen(PORT, '127.0.0.1', () => console.log('listening'));
'''
PYTHON = '''
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        print(self.path, flush=True)
        if 'chunked' in self.headers.get('Transfer-Encoding', '').lower():
            while True:
                size = int(self.rfile.readline().split(b';')[0], 16)
                self.rfile.read(size)
                self.rfile.readline()
                if not size:
                    break
        else:
            self.rfile.read(int(self.headers.get('Content-Length', 0)))
        self.send_response(200)
        self.send_header('Content-Length', '6')
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(b'python')
    do_POST = do_HEAD = do_OPTIONS = do_GET
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(('127.0.0.1', PORT), Handler)
print('listening', flush=True)
server.serve_forever()
'''
GUNICORN = '''
def app(environ, start):
    print(environ['RAW_URI'], flush=True)
    environ['wsgi.input'].read()
    start('200 OK', [('Content-Length', '8')])
    return [b'gunicorn']
'''
HAPROXY = '''
global
    log stdout format raw local0
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 5s
    log global
    log-format "%HU"
frontend one
    bind 127.0.0.1:PORT
    http-request wait-for-body time 5s
    http-request return status 200 content-type text/plain string haproxy
'''
NGINX = '''
daemon off; master_process off; pid FOLDER/nginx.pid; error_log FOLDER/error.log;
events { worker_connections 256; }
http {
    access_log FOLDER/access.log; client_body_temp_path FOLDER; proxy_temp_path FOLDER; fastcgi_temp_path FOLDER; uwsgi_temp_path FOLDER; scgi_temp_path FOLDER;
    server { listen 127.0.0.1:PORT; location / { return 200 "nginx"; } }
}
'''


@contextlib.contextmanager
def backend(kind, folder):
    port = free_port()
    lines = []
    if kind == 'nginx':
        if not os.path.exists('/usr/sbin/nginx'):
            pytest.skip('nginx is not installed')
        with open(folder + '/nginx.conf', 'w', encoding='utf-8') as file:
            file.write(NGINX.replace('FOLDER', folder).replace('PORT', str(port)))
        command = ['/usr/sbin/nginx', '-p', folder, '-c', folder + '/nginx.conf', '-e', folder + '/error.log']
    elif kind == 'gunicorn':
        if not os.path.exists('/usr/bin/gunicorn'):
            pytest.skip('gunicorn is not installed')
        with open(folder + '/forged.py', 'w', encoding='utf-8') as file:
            file.write(GUNICORN)
        # Threads keep connections, so that what one request leaves would be the next one's.
        command = ['/usr/bin/gunicorn', '--chdir', folder, '--bind', f'127.0.0.1:{port}', '--worker-class', 'gthread', '--threads', '8',
                   '--keep-alive', '30', 'forged:app']
    elif kind == 'haproxy':
        if not os.path.exists('/usr/sbin/haproxy'):
            pytest.skip('haproxy is not installed')
        with open(folder + '/haproxy.cfg', 'w', encoding='utf-8') as file:
            file.write(HAPROXY.replace('PORT', str(port)))
        command = ['/usr/sbin/haproxy', '-f', folder + '/haproxy.cfg', '-db']
    elif kind == 'node':
        if not os.path.exists('/usr/bin/node'):
            pytest.skip('no node on this machine')
        command = ['/usr/bin/node', '-e', NODE.replace('PORT', str(port))]
    else:
        command = ['/usr/bin/python3', '-c', PYTHON.replace('PORT', str(port))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, '')), daemon=True).start()

        def is_up():
            with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 1):
                return True
        wait_until(is_up, f'{kind} ({lines})')

        def logged():
            if kind != 'nginx':
                return lines
            with open(folder + '/access.log', encoding='utf-8') as file:
                return file.readlines()
        yield port, Seen(process, logged)
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize('kind', ['nginx', 'haproxy', 'gunicorn', 'node', 'python'])
def test_smuggling(kind, folder):
    """Requests that a backend saw are the requests that we accepted and sent, one for one; nobody reads another one
    out of a body. Between the cases a probe finds the pooled connections in step."""
    cases = list(corpus())
    assert len(cases) >= 800
    with backend(kind, folder) as (port, seen), Gateway(PLAIN + f'site localhost {{ proxy 127.0.0.1:{port} }}') as gateway:
        accepted = 0
        for number, data in cases:
            statuses = answers_to(gateway.port, data)
            accepted += statuses[:1] == [200]
            if number % 16 == 0:
                probe = get(gateway.port, f'/probe-{number}')
                assert probe.status == 200 and probe.text == kind, (number, probe.body)
        assert 0 < accepted < len(cases) / 2
        get(gateway.port, '/probe-999999')
        gateway.record('/probe-999999')
        # Sent: the access log names an origin that answered, or that had the request when the client went.
        sent = sorted(r['path'] for r in gateway.records if r.get('upstream'))
        wait_until(lambda: '/probe-999999' in seen.paths(), 'the last request to be seen')
        assert seen.paths() == sent
        refused = {r['path'] for r in gateway.records if r['end'].startswith('client-malformed')}
        assert not refused & set(seen.paths())


# ---- Chunks

def chunked(body):
    return b'POST /chunks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n' + body


CHUNKS = [
    # the limit, one below, at, one above: status
    ('extension', [(b'1;' + b'a' * (n - 1) + b'\r\nx\r\n0\r\n\r\n', s) for n, s in ((127, 200), (128, 200), (129, 400))]),
    ('extensions', [(b''.join(b'1;' + b'a' * (k - 1) + b'\r\nx\r\n' for k in [128] * 31 + [n]) + b'0\r\n\r\n', s)
                    for n, s in ((127, 200), (128, 200))] + [(b''.join(b'1;' + b'a' * 127 + b'\r\nx\r\n' for _ in range(32)) + b'1;\r\n', 400)]),
    ('size', [(b'0' * (n - 1) + b'1\r\nx\r\n0\r\n\r\n', s) for n, s in ((15, 200), (16, 200), (17, 400))]),
    ('line-end', [(b'1\nx\r\n0\r\n\r\n', 400), (b'1\r\nx\n0\r\n\r\n', 400), (b'1\rx\r\n0\r\n\r\n', 400), (b'1;a\nb\r\nx\r\n0\r\n\r\n', 400),
                  (b'1\r\nx\r\n0\r\n\n', 400), (b'1;a="\n"\r\nx\r\n0\r\n\r\n', 400)]),
    ('bytes', [(b'1\0\r\nx\r\n0\r\n\r\n', 400), (b'1;\0\r\nx\r\n0\r\n\r\n', 400), (b'1 \r\nx\r\n0\r\n\r\n', 400), (b'-1\r\nx\r\n0\r\n\r\n', 400),
               (b'0x1\r\nx\r\n0\r\n\r\n', 400), (b'1\r\nxy\r\n0\r\n\r\n', 400)]),
    ('trailers', [(b'0\r\nX-Trailer: 1\r\n\r\n', 200), (b'0\r\nno colon\r\n\r\n', 400), (b'0\r\nX: \0\r\n\r\n', 400),
                  (b'0\r\n' + b'X: 1\r\n' * 100 + b'\r\n', 200), (b'0\r\n' + b'X: 1\r\n' * 101 + b'\r\n', 431)]),
    ('overhead', [(b''.join(b'0000000001\r\nx\r\n' for _ in range(6000)) + b'0\r\n\r\n', 400), (b''.join(b'1\r\nx\r\n' for _ in range(20000)) + b'0\r\n\r\n', 200)]),
]


@pytest.fixture(scope='module')
def described():
    with Origin() as origin, Gateway(PLAIN + f'site localhost {{ proxy 127.0.0.1:{origin.port} }}') as gateway:
        gateway.origin = origin
        yield gateway


@pytest.mark.parametrize('name, rows', CHUNKS, ids=[name for name, _ in CHUNKS])
def test_chunks(described, name, rows):
    for body, status in rows:
        with Client(described.port) as client:
            client.send(chunked(body))
            response = client.response()
            assert response.status == status, (body[:60], response.status)
            if status == 200:
                seen = described.origin.requests[-1]
                assert not seen.trailers and set(seen.body) <= set(b'x'), 'extensions and trailers stay here'
            else:
                client.expect_end()


# ---- Header limits

def head_of(size):
    start = b'GET /head HTTP/1.1\r\nHost: localhost\r\n'
    return start + b'X: ' + b'a' * (size - len(start) - 7) + b'\r\n\r\n'


HEADS = [
    ('line', [(b'GET /' + b'a' * (n - 14) + b' HTTP/1.1\r\nHost: localhost\r\n\r\n', s) for n, s in ((8191, 200), (8192, 200), (8193, 414))]),
    ('head', [(head_of(n), s) for n, s in ((32767, 200), (32768, 200), (32769, 431))]),
    ('fields', [(b'GET / HTTP/1.1\r\nHost: localhost\r\n' + b'X: 1\r\n' * n + b'\r\n', s) for n, s in ((98, 200), (99, 200), (100, 431))]),
    ('empty-lines', [(b'\r\n' * n + b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n', s) for n, s in ((0, 200), (1, 200), (2, 400))]),
    ('malformed', [(b'GET / HTTP/1.1\r\nHost: localhost\r\n' + line + b'\r\n\r\n', 400) for line in (
        b'X : 1', b'X\t: 1', b'X Y: 1', b' X: 1', b'X: 1\r\n folded', b'X: a\0b', b'X\0: 1', b'X\x01: 1', b'X: a\x7fb', b'X: a\rb', b'X', b': 1')]),
    ('host', [(b'GET / HTTP/1.1\r\n' + host + b'\r\n\r\n', s) for host, s in (
        (b'X: 1', 400), (b'Host: localhost\r\nHost: localhost', 400), (b'Host: a b', 400), (b'Host: local\0host', 400), (b'Host: user@localhost', 400),
        (b'Host: localhost', 200), (b'Host:', 400))]),
    ('absolute', [(b'GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n', 200), (b'GET http://other/ HTTP/1.1\r\nHost: localhost\r\n\r\n', 400),
                  (b'GET http://localhost/ HTTP/1.1\r\n\r\n', 400), (b'GET / HTTP/1.0\r\n\r\n', 200)]),
]


@pytest.mark.parametrize('name, rows', HEADS, ids=[name for name, _ in HEADS])
def test_heads(described, name, rows):
    for data, status in rows:
        with Client(described.port) as client:
            client.send(data)
            response = client.response()
            assert response.status == status, (data[:70], len(data), response.status)
            if status != 200:
                client.expect_end()


# ---- Pipelining

def test_pipelining():
    """10,000 in one piece, on a connection that reads nothing until they are written: in order, and not kept."""
    count = 10_000
    executable = RELEASE if os.access(RELEASE, os.X_OK) else program()
    with Gateway(PLAIN + 'log access off\nsite localhost { respond 200 "one" on /one; respond 200 "two" on /two }', executable=executable) as gateway:
        data = b''.join(b'GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n' % (b'one', b'two')[i % 2] for i in range(count))
        for _ in range(8):
            get(gateway.port, '/one')
        before = {pid: Process(pid).memory_bytes() for pid in gateway.pids('worker')}
        with Client(gateway.port) as client:
            sender = threading.Thread(target=client.send, args=(data,))
            sender.start()
            assert [client.response().body for _ in range(count)] == [b'one', b'two'] * (count // 2)
            sender.join(30)
            grown = max(Process(pid).memory_bytes() - size for pid, size in before.items())
        assert executable != RELEASE and is_sanitized() or grown < 1 << 20, grown


# ---- Upgrade, CONNECT, h2c

UPGRADE = 'GET /refused HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Key: eA==\r\n\r\n'
HIDDEN = b'GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n'


@pytest.mark.parametrize('data', [UPGRADE % 'websocket', UPGRADE % 'h2c', 'CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n',
                                  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'], ids=['websocket', 'h2c', 'connect', 'preface'])
@pytest.mark.parametrize('when', ['with', 'after'])
def test_bytes_behind_an_upgrade(described, data, when):
    """They are for another protocol: held until 101, and after a refusal never read as a request."""
    before = len(described.origin.requests)
    with Client(described.port) as client:
        client.send(data.encode() + (HIDDEN if when == 'with' else b''))
        response = client.response()
        assert response.status in (200, 400, 405, 505)
        if when == 'with':
            client.expect_end()
        elif not response.is_last:
            assert client.get('/ordinary').status == 200
    seen = described.origin.requests[before:]
    assert not [r for r in seen if r.target == '/smuggled'] and not [r for r in seen if 'h2c' in r.raw.decode('latin-1').lower()]


def test_nothing_passes_before_101():
    """What a client sends behind its upgrade reaches the origin when that has switched, and not before."""
    early, switched = [], threading.Event()

    def behave(exchange):
        exchange.connection.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            early.append(exchange.buffer or exchange.connection.recv(100))
        switched.set()
        exchange.send('HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
        exchange.connection.settimeout(20)
        exchange.send(exchange.connection.recv(len(HIDDEN)))
        return False
    with Origin(behave) as origin, Gateway(PLAIN + f'site localhost {{ proxy 127.0.0.1:{origin.port} }}') as gateway:
        with Client(gateway.port) as client:
            client.send((UPGRADE % 'websocket').encode() + HIDDEN)
            assert client.head().status == 101 and switched.is_set() and not early
            assert client.exactly(len(HIDDEN)) == HIDDEN


# ---- What an origin may make of an answer

@pytest.mark.parametrize('count, status', [(8, 200), (9, 502), (1000, 502)])
def test_interim_flood(count, status):
    def behave(exchange):
        exchange.send('HTTP/1.1 103 Early Hints\r\n\r\n' * count)
        return exchange.reply(200, 'done')
    with Origin(behave) as origin, Gateway(PLAIN + f'site localhost {{ proxy 127.0.0.1:{origin.port} }}') as gateway:
        response = get(gateway.port, '/')
        assert response.status == status and len(response.interim) <= 8


@pytest.mark.parametrize('field', ['X: a\rSet-Cookie: forged=1', 'X: a\nSet-Cookie: forged=1', 'X: a\r\r\nSet-Cookie: forged=1', 'X\r\nSet-Cookie: forged=1'])
def test_response_splitting(field):
    """A field with a line end in it never reaches a client, as one field or as two."""
    with Origin(lambda exchange: exchange.reply(200, 'x', field)) as origin, Gateway(PLAIN + f'site localhost {{ proxy 127.0.0.1:{origin.port} }}') as gateway:
        response = get(gateway.port, '/')
        assert response.status == 502 and not response.get('Set-Cookie')


def test_an_early_answer_says_that_the_connection_ends():
    """The origin answers before the body was read: whoever sends on, or another request, was told."""
    def behave(exchange):
        exchange.reply(200, 'early')
        exchange.read_body()
        return True
    with Origin(behave) as origin, Gateway(PLAIN + f'site localhost {{ proxy 127.0.0.1:{origin.port} }}') as gateway:
        with Client(gateway.port) as client:
            client.request('POST', '/', 'Transfer-Encoding: chunked')
            client.send(b'5\r\nhello\r\n')
            response = client.response()
            assert response.text == 'early' and response.is_last
            client.expect_end()
