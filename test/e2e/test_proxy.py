"""What passes between a client and an origin."""
import contextlib
import hashlib
import json
import os
import socket
import threading

import pytest

from client import Client, Closed, Truncated, get
from gateway import SOAK, Gateway, is_sanitized, program
from origin import Origin, describe

SITE = '''
listen 127.0.0.1:{port} plain serve
site localhost {{ proxy 127.0.0.1:{0} }}
site host.test {{ proxy 127.0.0.1:{0} host upstream }}
site named.test {{ proxy 127.0.0.1:{0} host inner.example }}
site unix.test {{ proxy unix:{1} }}
site token.test {{ proxy 127.0.0.1:{0} upgrade strange }}
'''
BIG = (1 << 30) if SOAK else (100 << 20)


class Script:
    """What the origin does with a path; the ordinary answer describes the request."""

    def __init__(self):
        self.paths, self.gates = {}, {}

    def __call__(self, exchange):
        return self.paths.get(exchange.target.partition('?')[0], describe)(exchange)

    def on(self, path):
        def add(function):
            self.paths[path] = function
            return function
        return add


@pytest.fixture(scope='module')
def script():
    return Script()


@pytest.fixture(scope='module')
def gateway(script, tmp_path_factory):
    del tmp_path_factory
    with Origin(script) as origin, Gateway(ready=False) as one:
        one.end_all()
        path = one.folder + '/origin.sock'
        with Origin(script, unix=path):
            one.write(SITE.replace('{port}', '{{port}}').format(origin.port, path))
            one.wants_ready, one.origin = True, origin
            one.start()
            yield one


def arrived(response):
    return json.loads(response.body)


def fields_of(response, name):
    return [v for n, v in arrived(response)['fields'] if n.lower() == name.lower()]


def test_a_request_as_it_arrives(gateway):
    response = get(gateway.port, '/a%20b/c?d=e&f', 'X-Odd: yes', 'Accept: */*', method='PUT', body=b'body')
    got = arrived(response)
    assert (got['method'], got['target'], got['version'], got['length']) == ('PUT', '/a%20b/c?d=e&f', 'HTTP/1.1', 4)
    assert fields_of(response, 'Host') == ['localhost'] and fields_of(response, 'X-Odd') == ['yes']
    assert fields_of(response, 'X-Forwarded-For') == ['127.0.0.1'] and fields_of(response, 'X-Real-IP') == ['127.0.0.1']
    assert fields_of(response, 'X-Forwarded-Proto') == ['http'] and fields_of(response, 'X-Forwarded-Host') == ['localhost']
    forwarded = fields_of(response, 'Forwarded')
    assert len(forwarded) == 1 and 'for=127.0.0.1' in forwarded[0] and 'proto=http' in forwarded[0]
    record = gateway.record('/a%20b/c') if [r for r in gateway.records if '%20' in r['path']] else gateway.record('/a b/c')
    assert record['upstream'] and record['upstream_ms'] >= 0 and record['end'] == 'ok'


def test_an_escaped_slash(folder):
    """It is passed on as it was sent, where no line of the site could be led around by it."""
    os.makedirs(folder + '/docs/a')
    with open(folder + '/docs/a/b', 'w', encoding='utf-8') as file:
        file.write('a document')
    with Origin() as origin, Gateway(f"""listen 127.0.0.1:{{port}} plain serve
site localhost {{ respond 403 on /admin/*; files {folder} on /docs/*; proxy 127.0.0.1:{origin.port} }}""") as one:
        for target in ('/@scope%2fname', '/@scope%2Fname?a=%2f', '/api/queues/%2f/q', '/a/x%2fadmin', '/a%2525%2f'):
            assert arrived(get(one.port, target))['target'] == target
        for target in ('/admin%2fx', '/%2fadmin/x', '/%61dmin%2Fx', '/docs%2fa', '/x%2f..%2fadmin', '/x%2f..', '/.%2fx', '/..%2fadmin/x'):
            assert get(one.port, target).status == 400, target
        assert one.record('/admin%2fx')['end'] == 'client-malformed:bad-target'
        assert [get(one.port, target).status for target in ('/docs/a/b', '/docs/a%2fb', '/admin/x%2fy')] == [200, 404, 403]
        assert len(origin.requests) == 5


def test_forged_fields_do_not_arrive(gateway):
    forged = ['X-Forwarded-For: 6.6.6.6', 'X-Forwarded-Proto: https', 'X-Forwarded-Host: evil', 'Forwarded: for=6.6.6.6',
              'X-Real-IP: 6.6.6.6', 'x_real_ip: 6.6.6.6',
              'X_Forwarded_For: 6.6.6.6', 'x-forwarded_for: 6.6.6.6', 'X_FORWARDED-PROTO: https', 'Proxy: evil',
              'Content_Length: 5', 'Connection: X-Forwarded-For, Host, close-not, X-Private', 'X-Private: secret',
              'Keep-Alive: 5', 'Te: gzip', 'Proxy-Connection: keep-alive', 'Upgrade: h2c', 'HTTP2-Settings: AAAA']
    response = get(gateway.port, '/forged', *forged)
    text = json.dumps(arrived(response)['fields'])
    assert '6.6.6.6' not in text and 'evil' not in text and 'secret' not in text and 'h2c' not in text
    assert fields_of(response, 'X-Real-IP') == ['127.0.0.1']
    assert fields_of(response, 'X-Forwarded-For') == ['127.0.0.1'] and fields_of(response, 'Host') == ['localhost']
    for name in ('Keep-Alive', 'Proxy-Connection', 'Proxy', 'Content_Length', 'X-Private', 'Upgrade'):
        assert not fields_of(response, name), name


@pytest.mark.parametrize('site, host', [('host.test', '127.0.0.1:{origin}'), ('named.test', 'inner.example'), ('unix.test', 'unix.test')])
def test_host(gateway, site, host):
    assert fields_of(get(gateway.port, '/', host=site), 'Host') == [host.replace('{origin}', str(gateway.origin.port))]


def test_fields_of_an_answer(gateway, script):
    @script.on('/fields')
    def _(exchange):
        return exchange.reply(203, 'x', 'Connection: X-Hop, keep-alive', 'X-Hop: 1', 'Keep-Alive: timeout=5', 'Set-Cookie: a=1',
                              'Set-Cookie: b=2', 'X-Kept: yes', 'Server: theirs', 'Proxy-Authenticate: x')
    response = get(gateway.port, '/fields')
    assert response.status == 203 and response.all('Set-Cookie') == ['a=1', 'b=2'] and response.get('X-Kept') == 'yes'
    assert not response.get('X-Hop') and not response.get('Keep-Alive') and response.get('Server') == 'theirs'
    assert response.get('Date')


@pytest.mark.parametrize('body, sizes', [(b'', []), (b'x', [1]), (b'abc' * 40000, [1, 5, 100, 16384, 70000, 33510])])
def test_chunks_both_ways(gateway, script, body, sizes):
    @script.on('/chunked')
    def _(exchange):
        got = exchange.read_body()
        assert exchange.get('Content-Length') is None or exchange.get('Transfer-Encoding') is None
        exchange.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n')
        for at in range(0, len(got), 777 if len(got) < 1000 else 30000):
            piece = got[at:at + (777 if len(got) < 1000 else 30000)]
            exchange.send(b'%x\r\n%s\r\n' % (len(piece), piece))
        exchange.send('0\r\nX-Sum: %s\r\n\r\n' % hashlib.sha256(got).hexdigest())
        return True
    with Client(gateway.port) as client:
        client.request('POST', '/chunked', 'Transfer-Encoding: chunked', 'TE: trailers')
        at = 0
        for size in sizes:
            client.send(b'%x\r\n%s\r\n' % (size, body[at:at + size]))
            at += size
        client.send(b'0\r\n\r\n')
        response = client.response()
        assert response.body == body and response.get('Transfer-Encoding') == 'chunked'
        assert response.trailers in ([], [('X-Sum', hashlib.sha256(body).hexdigest())])
        assert client.get('/after').status == 200


def test_an_answer_that_ends_by_close(gateway, script):
    @script.on('/until-close')
    def _(exchange):
        exchange.send(f'HTTP/1.0 200 OK\r\nX-V: {exchange.version}\r\n\r\n' + 'a' * 100000)
        return False
    with Client(gateway.port) as client:
        response = client.get('/until-close')
        assert response.body == b'a' * 100000 and response.get('Transfer-Encoding') == 'chunked'
        assert client.get('/after').status == 200
    with Client(gateway.port) as client:
        client.send(b'GET /until-close HTTP/1.0\r\nHost: localhost\r\n\r\n')
        response = client.response()
        assert response.body == b'a' * 100000 and not response.get('Transfer-Encoding')


@pytest.mark.parametrize('status', [204, 304])
def test_answers_without_a_body(gateway, script, status):
    @script.on(f'/{status}')
    def _(exchange):
        return exchange.reply(status, b'', *(['Content-Length: 5'] if status == 304 else []), length=False)
    with Client(gateway.port) as client:
        assert client.get(f'/{status}').status == status
        assert client.get('/after').status == 200
        assert client.get('/describe', method='HEAD').status == 200
        assert client.get('/after').status == 200


def test_interim_answers(gateway, script):
    @script.on('/interim')
    def _(exchange):
        exchange.send('HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n')
        return exchange.reply(200, 'done')
    response = get(gateway.port, '/interim')
    assert response.text == 'done' and [r.status for r in response.interim] == [103, 102]
    assert response.interim[0].get('Link') == '</style.css>'
    with Client(gateway.port) as client:
        client.send(b'GET /interim HTTP/1.0\r\nHost: localhost\r\n\r\n')
        assert client.response().interim == []


@pytest.mark.parametrize('asks', [True, False])
def test_100_continue(gateway, script, asks):
    """The origin's 100, or the gateway's after 1 s, asks for the body; never twice."""
    @script.on('/continue')
    def _(exchange):
        assert exchange.get('Expect') == '100-continue'
        if asks:
            exchange.send('HTTP/1.1 100 Continue\r\n\r\n')
        return exchange.reply(200, exchange.read_body())
    # A pooled connection to the origin just before: on that one nothing but the second itself wakes the exchange.
    script.on('/pooled')(lambda exchange: exchange.reply(200, 'pooled'))
    with Client(gateway.port) as client:
        assert client.get('/pooled').status == 200
        client.request('POST', '/continue', 'Expect: 100-continue', 'Content-Length: 5')
        assert client.line() == 'HTTP/1.1 100 Continue' and client.fields() is not None
        client.send(b'hello')
        response = client.response()
        assert response.body == b'hello' and not response.interim


def test_a_refusal_instead_of_100(gateway, script):
    @script.on('/refuse')
    def _(exchange):
        exchange.reply(403, 'no')
        return False
    with Client(gateway.port) as client:
        client.request('POST', '/refuse', 'Expect: 100-continue', 'Content-Length: 5')
        response = client.response()
        assert response.status == 403 and not response.interim


def test_an_answer_before_the_body_was_sent(gateway, script):
    """It reaches the client while it still sends; then the connection ends."""
    @script.on('/early')
    def _(exchange):
        exchange.reply(413, 'too much', 'Connection: close')
        return False
    with Client(gateway.port) as client:
        client.request('POST', '/early', f'Content-Length: {50 << 20}')
        client.send(b'a' * 1000)
        assert client.response().status == 413
        try:
            for _ in range(100):
                client.send(b'a' * 100000)
        except OSError:
            pass
    assert gateway.record('/early')['status'] == 413


def test_both_directions_stream(gateway, script):
    @script.on('/echo')
    def _(exchange):
        exchange.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
        for piece in exchange.pieces():
            exchange.send(b'%x\r\n%s\r\n' % (len(piece), piece))
        exchange.send('0\r\n\r\n')
        return True
    with Client(gateway.port) as client:
        client.request('POST', '/echo', 'Transfer-Encoding: chunked')
        head = None
        for i in range(50):
            word = b'word %d' % i
            client.send(b'%x\r\n%s\r\n' % (len(word), word))
            head = head or client.head()
            assert client.exactly(int(client.line(), 16)) == word and client.exactly(2)
        client.send(b'0\r\n\r\n')
        assert client.chunks() == (b'', []) and head.status == 200


def test_server_sent_events(gateway, script):
    """Each event is sent only after the client acknowledged the one before: nothing waits for a buffer to fill."""
    gate = threading.Semaphore(0)

    @script.on('/acknowledge')
    def _(exchange):
        gate.release()
        return exchange.reply(204, length=False)

    @script.on('/events')
    def _(exchange):
        exchange.send('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n')
        for i in range(30):
            event = f'data: {i}\n\n'
            exchange.send(f'{len(event):x}\r\n{event}\r\n')
            if not gate.acquire(timeout=20):
                return False
        exchange.send('0\r\n\r\n')
        return True
    with Client(gateway.port) as client, Client(gateway.port) as other:
        client.request('GET', '/events')
        assert client.head().get('Content-Type') == 'text/event-stream'
        for i in range(30):
            assert client.exactly(int(client.line(), 16)) == b'data: %d\n\n' % i and client.exactly(2)
            assert other.get('/acknowledge').status == 204
        assert client.chunks() == (b'', [])


def accept_of(key):
    import base64
    return base64.b64encode(hashlib.sha1(key.encode() + b'258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest()).decode()


def test_websocket(gateway, script):
    @script.on('/socket')
    def _(exchange):
        if (exchange.get('Upgrade') or '').lower() != 'websocket' or 'upgrade' not in (exchange.get('Connection') or '').lower():
            return exchange.reply(400)
        exchange.send('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
                      f'Sec-WebSocket-Accept: {accept_of(exchange.get("Sec-WebSocket-Key"))}\r\n\r\nfirst')
        while True:
            data = exchange.buffer or exchange.connection.recv(65536)
            exchange.buffer = b''
            if not data or data.endswith(b'bye'):
                exchange.send(b'bye')
                return False
            exchange.send(data[::-1])
    with Client(gateway.port) as client:
        client.request('GET', '/socket', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13',
                       'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==')
        head = client.head()
        assert head.status == 101 and head.get('Upgrade').lower() == 'websocket'
        assert head.get('Sec-WebSocket-Accept') == 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='
        assert client.exactly(5) == b'first'
        for i in range(20):
            client.send(b'frame %d' % i)
            assert client.exactly(len(b'frame %d' % i)) == (b'frame %d' % i)[::-1]
        client.send(b'\x81\x00' * 50000 + b'bye')
        client.expect_last = True
        while not client.buffer.endswith(b'bye') and client.more():
            pass
        client.buffer = b''
        client.expect_end()
    record = gateway.record('/socket')
    assert (record['status'], record['end']) == (101, 'ok') and record['bytes_in'] > 100000


@pytest.mark.parametrize('site, token, switched', [('token.test', 'strange', True), ('localhost', 'strange', False), ('token.test', 'h2c', False)])
def test_other_upgrades(gateway, script, site, token, switched):
    @script.on('/upgrade')
    def _(exchange):
        if exchange.get('Upgrade'):
            exchange.send(f'HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: {exchange.get("Upgrade")}\r\n\r\n')
            return False
        return exchange.reply(200, 'plain')
    with Client(gateway.port) as client:
        client.request('GET', '/upgrade', 'Connection: Upgrade', f'Upgrade: {token}', host=site)
        assert client.head().status == (101 if switched else 200)


def test_a_client_that_goes(gateway, script):
    """The origin learns it, and the log says so."""
    gone, started = threading.Event(), threading.Event()

    @script.on('/endless')
    def _(exchange):
        exchange.send('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n')
        try:
            while True:
                started.set()
                exchange.send(b'1000\r\n' + b'a' * 4096 + b'\r\n')
        except OSError:
            gone.set()
        return False
    with Client(gateway.port) as client:
        client.request('GET', '/endless')
        assert client.head().status == 200 and started.wait(30)
        client.reset()
    assert gone.wait(30) and gateway.record('/endless')['end'] == 'client-gone'


@pytest.mark.soak
@pytest.mark.parametrize('way', ['down', 'up'])
def test_big_bodies(gateway, script, way):
    """Byte for byte, and without a worker that grows."""
    block = os.urandom(1 << 20)
    want = hashlib.sha256()
    for i in range(BIG >> 20):
        want.update(block[i % 1000:] + block[:i % 1000])

    @script.on('/big')
    def _(exchange):
        if exchange.method == 'POST':
            got = hashlib.sha256()
            for piece in exchange.pieces():
                got.update(piece)
            return exchange.reply(200, got.hexdigest())
        exchange.send(f'HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n')
        for i in range(BIG >> 20):
            exchange.send(block[i % 1000:])
            exchange.send(block[:i % 1000])
        return True

    def memory():
        from gateway import Process
        return {pid: Process(pid).memory_bytes() for pid in gateway.pids('worker')}
    assert get(gateway.port, '/warm').status == 200
    before, most, over = memory(), {}, threading.Event()

    def watch():
        while not over.wait(0.05):
            for pid, size in memory().items():
                most[pid] = max(most.get(pid, 0), size)
    watcher = threading.Thread(target=watch)
    watcher.start()
    with Client(gateway.port, timeout=120) as client:
        if way == 'down':
            got = hashlib.sha256()
            client.request('GET', '/big')
            client.response(sink=got.update)
            assert got.hexdigest() == want.hexdigest()
        else:
            client.request('POST', '/big', f'Content-Length: {BIG}')
            for i in range(BIG >> 20):
                client.send(block[i % 1000:] + block[:i % 1000])
            assert client.response().text == want.hexdigest()
    over.set()
    watcher.join()
    if not is_sanitized():
        grown = {pid: most[pid] - before[pid] for pid in before if pid in most}
        assert max(grown.values()) < 20 << 20, (program(), grown)


def test_a_slow_reader_slows_the_origin(gateway, script):
    """What the gateway holds for a client that does not read has a bound."""
    sent = [0]
    over = threading.Event()

    @script.on('/slow-reader')
    def _(exchange):
        exchange.send(f'HTTP/1.1 200 OK\r\nContent-Length: {1 << 30}\r\n\r\n')
        exchange.connection.settimeout(1)
        try:
            while sent[0] < 1 << 30:
                exchange.connection.sendall(b'a' * 65536)
                sent[0] += 65536
        except OSError:
            pass
        over.set()
        return False
    with Client(gateway.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.request('GET', '/slow-reader')
        assert client.head().status == 200
        assert over.wait(30) and sent[0] < 64 << 20
        with pytest.raises((Truncated, Closed)):
            client.exactly(1 << 30, sink=lambda data: None)


# ---- Tunnels whose halves end one after the other

SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n'


def tunnel(port, path, tls=None):
    client = Client(port, tls=tls)
    client.request('GET', path, 'Connection: Upgrade', 'Upgrade: websocket')
    assert client.head().status == 101
    return client


def pour(exchange, count):
    """So much that no buffer on the way takes it all."""
    for _ in range(count):
        exchange.send(b'b' * 65536)


@pytest.mark.parametrize('first', ['client', 'origin'])
def test_a_tunnel_that_ends_by_halves(gateway, script, first):
    """Who ends its half is told on, and still hears the other to its end."""
    heard, ended = [], threading.Event()

    def rest_of(exchange):
        while True:
            data = exchange.connection.recv(65536)
            if not data:
                return
            heard.append(data)

    @script.on(f'/half/{first}')
    def _(exchange):
        exchange.send(SWITCH)
        if first == 'client':
            rest_of(exchange)
            pour(exchange, 64)
        else:
            pour(exchange, 16)
            exchange.connection.shutdown(socket.SHUT_WR)
            rest_of(exchange)
        ended.set()
        return False
    with tunnel(gateway.port, f'/half/{first}') as client:
        if first == 'client':
            client.send(b'a' * 300000)
            client.socket.shutdown(socket.SHUT_WR)
        wanted = (64 if first == 'client' else 16) * 65536
        client.exactly(wanted, sink=lambda data: None)
        if first == 'origin':
            client.expect_end()
            client.send(b'a' * 300000)
            client.socket.shutdown(socket.SHUT_WR)
        client.expect_end()
        assert ended.wait(30) and len(b''.join(heard)) == 300000
    record = gateway.record(f'/half/{first}')
    assert record['end'] == 'ok' and record['bytes_in'] >= 300000 and record['bytes_out'] >= wanted


@pytest.mark.parametrize('end', ['reset', 'close'])
def test_a_half_of_a_tunnel_that_breaks(gateway, script, end):
    """Behind the origin's end: when it is gone altogether nobody waits for the client's half."""
    go = threading.Event()

    @script.on(f'/broken/{end}')
    def _(exchange):
        exchange.send(SWITCH)
        exchange.connection.shutdown(socket.SHUT_WR)
        assert go.wait(30)
        return exchange.reset() if end == 'reset' else False
    with tunnel(gateway.port, f'/broken/{end}') as client:
        client.expect_end()
        go.set()
        if end == 'close':  # only who writes learns it
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    client.send(b'a' * 1000)
        assert gateway.record(f'/broken/{end}')['end'] == 'ok'


def test_a_client_that_resets_its_half_closed_tunnel(gateway, script):
    ended, gone = threading.Event(), threading.Event()

    @script.on('/half/reset')
    def _(exchange):
        exchange.send(SWITCH)
        assert exchange.connection.recv(100) == b''
        ended.set()
        with contextlib.suppress(OSError):
            while True:
                exchange.send(b'a' * 1000)
        gone.set()
        return False
    with tunnel(gateway.port, '/half/reset') as client:
        client.socket.shutdown(socket.SHUT_WR)
        assert ended.wait(30)
        client.reset()
        assert gone.wait(30) and gateway.record('/half/reset')['end'] == 'client-gone'
