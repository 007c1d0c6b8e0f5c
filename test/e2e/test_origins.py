"""Connections to origins: TLS, pools, retries."""
import os
import shutil
import ssl
import subprocess
import threading

import pytest

from client import get
from gateway import SOAK, Gateway, free_port, new_folder, wait_until
from origin import Origin, describe
from test_certificates import EC, openssl


@pytest.fixture(scope='module')
def store():
    folder = new_folder()
    openssl(folder, 'req', '-x509', *EC, '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=ca', '-days', '90')
    for name, names, days in (('good', 'DNS:localhost,IP:127.0.0.1', 30), ('other', 'DNS:other.test', 30), ('expired', 'DNS:localhost,IP:127.0.0.1', -1)):
        openssl(folder, 'req', *EC, '-nodes', '-keyout', f'{name}.key', '-out', f'{name}.csr', '-subj', f'/CN={name}')
        with open(f'{folder}/{name}.ext', 'w', encoding='utf-8') as file:
            file.write(f'subjectAltName={names}\nextendedKeyUsage=serverAuth\n')
        openssl(folder, 'x509', '-req', '-in', f'{name}.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out', f'{name}.pem',
                '-extfile', f'{name}.ext', '-days', str(days))
    openssl(folder, 'req', '-x509', *EC, '-nodes', '-keyout', 'self.key', '-out', 'self.pem', '-subj', '/CN=localhost', '-addext',
            'subjectAltName=DNS:localhost,IP:127.0.0.1')
    yield folder
    shutil.rmtree(folder)


def server(store, name, **versions):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f'{store}/{name}.pem', f'{store}/{name}.key')
    for key, value in versions.items():
        setattr(context, key, value)
    return context


def in_front_of(origin, store, verify=True, host='127.0.0.1'):
    more = f' verify ca {store}/ca.pem' if verify else ''
    return Gateway(f'listen 127.0.0.1:{{port}} plain serve\nlimits {{ connect 2s }}\nsite localhost {{ proxy https://{host}:{origin.port}{more} }}')


@pytest.mark.parametrize('host', ['127.0.0.1', 'localhost'])
@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=['1.2', '1.3'])
def test_a_verified_origin(store, host, version):
    with Origin(tls=server(store, 'good', maximum_version=version)) as origin, in_front_of(origin, store, host=host) as gateway:
        for i in range(5):
            assert get(gateway.port, f'/{i}', method='POST', body=b'x' * 100000).status == 200
        assert gateway.record('/4')['end'] == 'ok'


@pytest.mark.parametrize('name, verify, end', [
    ('other', True, 'origin-tls:name'), ('expired', True, 'origin-tls:expired'), ('self', True, 'origin-tls:untrusted'), ('good', False, 'origin-tls:untrusted')])
def test_an_origin_that_is_not_who_it_should_be(store, name, verify, end):
    with Origin(tls=server(store, name)) as origin, in_front_of(origin, store, verify) as gateway:
        response = get(gateway.port, '/secret')
        assert response.status == 502 and gateway.record('/secret')['end'] == end
        assert not origin.requests and gateway.record('/secret')['request_id'] in response.text


def test_an_origin_at_an_ipv6_address():
    with Origin(address='::1') as origin, Gateway('listen 127.0.0.1:{port} plain serve\nsite localhost { proxy [::1]:%d }\n' % origin.port) as gateway:
        assert get(gateway.port, '/six').status == 200


def test_no_tls_at_all(store):
    """An origin that answers the hello with words."""
    class Talker(Origin):
        def serve(self, connection):
            with connection:
                connection.recv(10000)
                connection.sendall(b'HTTP/1.1 400 Bad Request\r\n\r\n')
    with Talker() as origin, in_front_of(origin, store) as gateway:
        assert get(gateway.port, '/plain').status == 502
        assert gateway.record('/plain')['end'].startswith('origin-tls:')


def test_the_end_without_close_notify(store):
    """Before a known length, or without one: never a short body that looks whole."""
    from client import Client, Truncated

    def behave(exchange):
        exchange.send('HTTP/1.1 200 OK\r\n' + ('Content-Length: 100\r\n' if exchange.target == '/length' else 'Connection: close\r\n') + '\r\nshort')
        exchange.connection.unwrap = None
        os.close(exchange.connection.detach())
        return False
    with Origin(behave, tls=server(store, 'good')) as origin, in_front_of(origin, store) as gateway:
        for path in ('/length', '/close'):
            with Client(gateway.port) as client:
                client.request('GET', path)
                with pytest.raises(Truncated):
                    client.response()
            assert gateway.record(path)['end'] == 'origin-truncated:no-close-notify'


# ---- the pool

def plain(origin_port, more=''):
    return Gateway(f'listen 127.0.0.1:{{port}} plain serve\n{more}site localhost {{ proxy 127.0.0.1:{origin_port} }}')


def test_connections_are_reused():
    with Origin() as origin, plain(origin.port) as gateway:
        for _ in range(40):
            assert get(gateway.port, '/').status == 200
        # And one of the dialer, which looks at the start whether anybody answers.
        assert origin.connection_count <= len(gateway.pids('worker')) + 1


def test_an_origin_that_closes_on_every_reuse():
    """Each GET is answered, each POST is sent at most once."""
    def behave(exchange):
        if exchange.number:
            return False
        return describe(exchange)
    with Origin(behave) as origin, plain(origin.port) as gateway:
        for i in range(60):
            assert get(gateway.port, f'/get/{i}').status == 200
        for i in range(30):
            assert get(gateway.port, f'/post/{i}', method='POST', body=b'once').status in (200, 502)
        targets = [r.target for r in origin.requests if r.method == 'POST']
        assert len(targets) == len(set(targets))


def test_a_get_is_sent_twice_at_most():
    def behave(exchange):
        return exchange.number == 0 and exchange.target == '/first' and describe(exchange)
    with Origin(behave) as origin, plain(origin.port) as gateway:
        for _ in range(8):
            get(gateway.port, '/first')
        for i in range(8):
            assert get(gateway.port, f'/never/{i}').status == 502
            assert 1 <= len([r for r in origin.requests if r.target == f'/never/{i}']) <= 2


@pytest.mark.parametrize('way', ['with', 'after'])
def test_stray_bytes_spoil_a_pooled_connection(way):
    """What an origin sends unasked, with its answer or after it, is nobody's answer."""
    stray, sent = b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison', threading.Semaphore(0)

    def behave(exchange):
        body = exchange.target.encode()
        exchange.send(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body) + (stray if way == 'with' else b''))
        if way == 'after':
            exchange.send(stray)
        sent.release()
        return True
    with Origin(behave) as origin, plain(origin.port) as gateway:
        for i in range(20):
            response = get(gateway.port, f'/{i}')
            assert response.status == 502 or response.text == f'/{i}'
            assert response.status == 200 or way == 'with'
            assert sent.acquire(timeout=20)


NODE = '''
const http = require('http');
const server = http.createServer((request, response) => { response.end('node'); });
server.keepAliveTimeout = 1000;
server.listen(PORT, '127.0.0.1', () => console.log('listening'));
'''


@pytest.mark.soak
def test_node_that_closes_after_a_second():
    """GETs spaced around keepAliveTimeout: never 502."""
    port = free_port()
    node = subprocess.Popen(['node', '-e', NODE.replace('PORT', str(port))], stdout=subprocess.PIPE, text=True)
    try:
        assert node.stdout.readline() == 'listening\n'
        with plain(port) as gateway:
            statuses, threads = [], []

            def ask(number):
                wait = threading.Event()
                for i in range(50 if SOAK else 4):
                    statuses.append(get(gateway.port, f'/{number}/{i}').status)
                    wait.wait(0.9 + (number * 7 + i * 13) % 200 / 1000)
            for number in range(40):
                threads.append(threading.Thread(target=ask, args=(number,)))
                threads[-1].start()
            for thread in threads:
                thread.join()
            assert set(statuses) == {200} and len(statuses) == (2000 if SOAK else 160)
    finally:
        node.kill()
        node.wait()


WSGI = '''
import json
def app(environ, start):
    start('200 OK', [('Content-Type', 'application/json')])
    return [json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()]
'''


def test_gunicorn_sees_nothing_forged(folder):
    """CGI's spelling makes one of X-Forwarded-For and X_Forwarded_For: no forged one arrives in any spelling."""
    import json
    if not os.path.exists('/usr/bin/gunicorn'):
        pytest.skip('gunicorn is not installed')
    with open(folder + '/wsgi.py', 'w', encoding='utf-8') as file:
        file.write(WSGI)
    port = free_port()
    server_process = subprocess.Popen(['/usr/bin/gunicorn', '--bind', f'127.0.0.1:{port}', '--workers', '1', 'wsgi:app'], cwd=folder,
                                      stderr=subprocess.PIPE, text=True)
    try:
        line = ''
        while 'Listening at' not in line:
            line = server_process.stderr.readline()
            assert line, 'gunicorn ended'
        threading.Thread(target=server_process.stderr.read, daemon=True).start()
        with plain(port) as gateway:
            forged = [f'{name}: 6.6.6.6' for name in (
                'X-Forwarded-For', 'X_Forwarded_For', 'X-Forwarded_For', 'x_forwarded-for', 'X-FORWARDED-PROTO', 'X_Forwarded_Proto', 'X_FORWARDED_HOST',
                'Forwarded', 'Proxy', 'X-Forwarded-Host')]
            response = get(gateway.port, '/a?b=c', *forged, 'X-Kept: yes')
            environ = json.loads(response.body)
            assert '6.6.6.6' not in response.text
            assert environ['HTTP_X_FORWARDED_FOR'] == '127.0.0.1' and environ['HTTP_X_FORWARDED_PROTO'] == 'http'
            assert environ['HTTP_X_FORWARDED_HOST'] == 'localhost' and environ['HTTP_X_KEPT'] == 'yes' and environ['HTTP_HOST'] == 'localhost'
            assert environ['PATH_INFO'] == '/a' and environ['QUERY_STRING'] == 'b=c'
    finally:
        server_process.terminate()
        server_process.wait()


def test_an_origin_that_comes_later():
    """Down at start: a warning at most; then its page names it, then it is served."""
    port = free_port()
    with plain(port) as gateway:
        response = get(gateway.port, '/early')
        assert response.status == 502 and gateway.record('/early')['end'] == f'origin-refused:127.0.0.1:{port}'
        with Origin(port=port):
            wait_until(lambda: get(gateway.port, '/later').status == 200, 'the origin to be used')


def test_several_origins_share():
    with Origin() as one, Origin() as two, Gateway(
            f'listen 127.0.0.1:{{port}} plain serve\nsite localhost {{ proxy 127.0.0.1:{one.port} 127.0.0.1:{two.port} }}') as gateway:
        for _ in range(40):
            assert get(gateway.port, '/').status == 200
        assert one.requests and two.requests


def test_proxy_in_one_line():
    from client import tls_context
    with Origin() as origin, Gateway(command=['proxy', '--listen', '127.0.0.1:{port}', str(origin.port), '--name', 'app.test,localhost']) as gateway:
        for name in ('app.test', 'localhost'):
            assert get(gateway.port, '/', tls=tls_context(), name=name).status == 200
        with pytest.raises(ssl.SSLError):
            get(gateway.port, '/', tls=tls_context(), name='other.test')
