"""HTTP/1.1 over a plain listener, answered by the gateway itself."""
import socket

import pytest

from client import Client, Closed, Truncated, get
from gateway import Gateway, wait_until

SITE = '''
log access stdout
listen 127.0.0.1:{port} plain serve
limits { header-time 1s }
site localhost {
    respond 200 "hello" on /
    respond 200 "one" on /one
    respond 200 "two" on /two
    respond 204 on /nothing
    respond 503 "back at noon" retry-after 1h on /shop/*
    respond 403 on /private
    redirect https://www.example.com/new 308 on /old
    redirect https://www.example.com/found on /moved
    limits { body 1KB }
}
site other.localhost { respond 200 "other" }
'''


@pytest.fixture(scope='module')
def gateway():
    with Gateway(SITE) as one:
        yield one


def exchange(gateway, data):
    """What comes back for these bytes, until the end of the connection."""
    with Client(gateway.port) as client:
        client.send(data)
        client.socket.shutdown(socket.SHUT_WR)
        responses = []
        try:
            while True:
                responses.append(client.response('HEAD' if data.startswith(b'HEAD') else 'GET'))
        except (Closed, Truncated):
            return responses


def test_respond(gateway):
    response = get(gateway.port, '/')
    assert (response.status, response.body, response.version) == (200, b'hello', 'HTTP/1.1')
    assert response.get('Content-Length') == '5' and response.get('Content-Type').startswith('text/plain')
    assert response.get('Date').endswith(' GMT') and len(response.get('Date')) == 29


@pytest.mark.parametrize('path, status, body', [
    ('/one', 200, b'one'), ('/one?with=query', 200, b'one'), ('/nothing', 204, b''), ('/shop/x/y', 503, b'back at noon'),
    ('/nowhere', 404, None), ('/private', 403, None)])
def test_answers(gateway, path, status, body):
    response = get(gateway.port, path)
    assert response.status == status
    assert body is None or response.body == body
    assert response.get('Retry-After') == ('3600' if status == 503 else None)
    if status == 204:
        assert response.get('Content-Length') is None and response.get('Transfer-Encoding') is None


def test_an_error_page_names_the_request(gateway):
    response = get(gateway.port, '/nowhere-at-all')
    record = gateway.record('/nowhere-at-all')
    assert record['status'] == 404 and record['end'] == 'ok'
    assert record['request_id'] in response.text


@pytest.mark.parametrize('path, status, location', [
    ('/old', 308, 'https://www.example.com/new'), ('/moved', 302, 'https://www.example.com/found')])
def test_redirect(gateway, path, status, location):
    response = get(gateway.port, path)
    assert (response.status, response.get('Location')) == (status, location)


def test_kept_alive(gateway):
    with Client(gateway.port) as client:
        for _ in range(20):
            assert client.get('/one').body == b'one'
            assert client.get('/nothing').status == 204
            assert client.get('/nowhere').status == 404
        assert client.get('/two', 'Connection: close').is_last
        client.expect_end()


def test_pipelined_in_order(gateway):
    with Client(gateway.port) as client:
        client.send(b''.join(b'GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n' % (b'one', b'two')[i % 2] for i in range(50)))
        assert [client.response().body for _ in range(50)] == [b'one', b'two'] * 25


def test_one_byte_a_write(gateway):
    with Client(gateway.port) as client:
        for byte in b'GET /two HTTP/1.1\r\nHost: localhost\r\n\r\n':
            client.send(bytes([byte]))
        assert client.response().body == b'two'


def test_head(gateway):
    with Client(gateway.port) as client:
        response = client.get('/', method='HEAD')
        assert (response.status, response.get('Content-Length')) == (200, '5')
        assert client.get('/one').body == b'one'


def test_options_star(gateway):
    with Client(gateway.port) as client:
        response = client.get('*', method='OPTIONS')
        assert response.status in (200, 204) and 'GET' in response.get('Allow')
        assert client.get('/one').body == b'one'


@pytest.mark.parametrize('body', [b'0\r\n\r\n', b'5\r\nhello\r\n0\r\n\r\n', b'1;x=y\r\na\r\n2\r\nbc\r\n0\r\nX-Trailer: 1\r\n\r\n'])
def test_a_chunked_request(gateway, body):
    with Client(gateway.port) as client:
        client.send(b'POST /one HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n' + body)
        assert client.response().body == b'one'
        if not client.is_over:
            assert client.get('/two').body == b'two'


def test_a_body_is_not_asked_for_in_vain(gateway):
    """The answer is known without the body: a final answer, not 100, comes first."""
    with Client(gateway.port) as client:
        client.request('POST', '/one', 'Expect: 100-continue', 'Content-Length: 5')
        response = client.response()
        assert response.status == 200 and not response.interim


def test_http_1_0(gateway):
    responses = exchange(gateway, b'GET /one HTTP/1.0\r\nHost: localhost\r\n\r\n')
    assert [r.body for r in responses] == [b'one']
    assert not responses[0].get('Transfer-Encoding') and responses[0].is_last


def test_http_1_0_without_host():
    with Gateway('listen 127.0.0.1:{port} plain serve\nsite localhost { respond 200 "only" }') as gateway:
        assert [r.body for r in exchange(gateway, b'GET / HTTP/1.0\r\n\r\n')] == [b'only']


def test_host_chooses_the_site(gateway):
    for host in ('other.localhost', 'OTHER.localhost.', f'other.localhost:{gateway.port}'):
        assert get(gateway.port, '/', host=host).body == b'other'
    assert get(gateway.port, '/misdirected', host='nobody.localhost').status == 421
    assert gateway.record('/misdirected')['end'] == 'misdirected'


@pytest.mark.parametrize('status, data', [
    (400, b'GET / HTTP/1.1\r\n\r\n'),
    (400, b'GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n'),
    (400, b'GET / HTTP/1.1\r\nHost: a b\r\n\r\n'),
    (400, b'GET / HTTP/1.1\r\nHost : localhost\r\n\r\n'),
    (400, b'GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n'),
    (400, b'GET / HTTP/1.1\nHost: localhost\n\n'),
    (400, b'GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n'),
    (400, b'GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    (400, b'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
    (400, b'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'),
    (400, b'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n'),
    (501, b'POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n'),
    (505, b'GET / HTTP/3.0\r\nHost: localhost\r\n\r\n'),
    (400, b'GET /../x HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n'),
    (414, b'GET /' + b'a' * 9000 + b' HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    (431, b'GET / HTTP/1.1\r\nHost: localhost\r\nX: ' + b'a' * 33000 + b'\r\n\r\n'),
    (431, b'GET / HTTP/1.1\r\nHost: localhost\r\n' + b'X: 1\r\n' * 101 + b'\r\n'),
    (413, b'POST /one HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n' + b'a' * 2000),
    (417, b'GET / HTTP/1.1\r\nHost: localhost\r\nExpect: a-miracle\r\n\r\n')])
def test_refused(gateway, status, data):
    with Client(gateway.port) as client:
        client.send(data + b'GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n')
        assert client.response().status == status
        client.expect_end()
    assert not [r for r in gateway.records if r['path'] == '/smuggled']


def test_a_record_of_what_is_no_http(gateway):
    with Client(gateway.port) as client:
        client.send(b'GET /twice HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n')
        assert client.response().status == 400
        port = client.socket.getsockname()[1]
    record = wait_until(lambda: [r for r in gateway.records if r['client_port'] == port], 'a record')[0]
    assert (record['status'], record['end']) == (400, 'client-malformed:host-twice')


def test_too_slow_a_head(gateway):
    with Client(gateway.port) as client:
        client.send(b'GET /slow HTTP/1.1\r\nHost: localho')
        assert client.response().status == 408
        client.expect_end()


def test_a_record(gateway):
    with Client(gateway.port) as client:
        assert client.get('/shop/record?a=%22b%22', 'User-Agent: "odd"\\\t', 'Referer: http://r/').status == 503
        port = client.socket.getsockname()[1]
    record = gateway.record('/shop/record')
    assert record['client'] == '127.0.0.1' and record['client_port'] == port
    assert (record['method'], record['host'], record['query']) == ('GET', 'localhost', 'a=%22b%22')
    assert (record['status'], record['protocol'], record['end']) == (503, 'HTTP/1.1', 'ok')
    assert record['user_agent'].startswith('"odd"\\') and record['referer'] == 'http://r/'
    assert record['bytes_in'] > 50 and record['bytes_out'] > 50 and record['duration_ms'] >= 0
    assert len(record['request_id']) == 32 and record['worker'] >= 0 and record['time'][:2] == '20'
    assert 'tls_version' not in record and 'upstream' not in record


def test_plain_redirects():
    """`plain` alone sends to the port that speaks TLS; a Host that no site has: 421."""
    with Gateway('listen 127.0.0.1:{port} plain\nlisten 127.0.0.1:{port2}\nsite localhost { respond 200 }') as gateway:
        response = get(gateway.port, '/a?b=c', host='localhost')
        assert (response.status, response.get('Location')) == (308, f'https://localhost:{gateway.ports[1]}/a?b=c')
        assert get(gateway.port, '/a', host='unknown.example').status == 421
