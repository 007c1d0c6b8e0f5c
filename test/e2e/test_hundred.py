"""A hundred reloads under load, each of which changes something, one kind after the other: a connection that was kept
shows the change with its next answer, and nobody loses anything by it."""
import contextlib
import glob
import hashlib
import json
import os
import shutil
import subprocess
import time

import pytest

from client import Client, Load, tls_context
from gateway import SOAK, Gateway, is_sanitized, wait_until
from origin import Origin
from test_certificates import EC, openssl
from traffic import Application, Download, WebSocket, content, held, snapshots_of

ROUNDS = 10 if SOAK else 2
BIG = (1 << 30) if SOAK else (200 << 20)
# What may differ between before and after, with the same clients connected. Descriptors: pooled connections to origins
# and documents that are kept open. Memory: what the heap of a process keeps for itself, which with sanitizers is also
# what was freed last.
MORE_DESCRIPTORS = 12
MORE_KIB = 32 << 10 if is_sanitized() else 2 << 10
# Configurations in a worker: the running one, that of the upload, one that requests of the change before still have,
# and the next. There are 8 places (PROC_SNAPSHOT_PLACES), and a change that found none free would wait.
MOST_AT_ONCE = 4

TEXT = '''
log access {folder}/logs/access-%(log)d.json
listen 127.0.0.1:{port}
listen 127.0.0.1:{port2} plain serve
%(listen)s
upstream even { origin 127.0.0.1:%(even)d }
upstream odd { origin 127.0.0.1:%(odd)d }
upstream moved { origin 127.0.0.1:%(origin)d }
site localhost {
    certificate file {folder}/live.crt {folder}/live.key
    files {folder}/big on /big.bin
    files {folder}/root-%(root)d on /page.txt
    route /route/* { respond 200 "route %(route)d" }
    proxy %(upstream)s on /upstream/*
    proxy moved on /origin/*
    proxy 127.0.0.1:%(even)d on /app/*
    respond 200 "kept"
}
%(site)s
'''


def new_certificate(folder, name):
    openssl(folder, 'req', '-x509', *EC, '-nodes', '-keyout', name + '.key', '-out', name + '.crt', '-subj', f'/CN={name}',
            '-addext', 'subjectAltName=DNS:localhost', '-days', '30')
    with open(f'{folder}/{name}.crt', encoding='utf-8') as file:
        return file.read()


def put_certificate(folder, name):
    """In the place of the one that is used, as those who renew them do it."""
    for end in ('.key', '.crt'):
        shutil.copy(folder + '/' + name + end, f'{folder}/live{end}.new')
        os.rename(f'{folder}/live{end}.new', f'{folder}/live{end}')


def lines_of(path):
    with contextlib.suppress(FileNotFoundError), open(path, encoding='utf-8') as file:
        return [json.loads(line) for line in file]
    return []


class Service(Gateway):
    """A gateway, what its text says now, and for each kind of change a connection that is kept."""

    def __init__(self, origins, folder):
        super().__init__('', folder=folder, env={'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':quarantine_size_mb=1'})
        self.origins = origins
        self.now = {'log': 0, 'listen': '', 'site': '', 'root': 0, 'route': 0, 'upstream': 'even',
                    'even': origins[0].port, 'odd': origins[1].port, 'origin': origins[0].port}
        for name in ('logs', 'big', 'root-0'):
            os.mkdir(f'{folder}/{name}')
        self.new_page(0)
        for name in ('even', 'odd'):
            new_certificate(folder, name)
        put_certificate(folder, 'even')
        self.write(TEXT % self.now)

    def new_page(self, number):
        os.makedirs(f'{self.folder}/root-{number}', exist_ok=True)
        with open(f'{self.folder}/root-{number}/page.txt', 'w', encoding='utf-8') as file:
            file.write(f'page {number}')

    def log(self, number):
        return f'{self.folder}/logs/access-{number}.json'

    def change(self, **parts):
        self.now.update(parts)
        self.reload_well(TEXT % self.now)

    def leaf(self):
        """The name in the certificate of a new handshake."""
        context = tls_context()
        with Client(self.port, context) as client:
            with open(f'{self.folder}/seen.der', 'wb') as file:
                file.write(client.socket.getpeercert(True))
        done = subprocess.run(['openssl', 'x509', '-inform', 'der', '-in', f'{self.folder}/seen.der', '-noout', '-subject'],
                              capture_output=True, text=True, check=True)
        return done.stdout.strip().rpartition('=')[2].strip()


# ---- The kinds of change. Each: makes it, the number-th time, and asserts that `client` sees it with its next answer.

def site_added(service, client, number):
    host = f'extra-{number}.localhost'
    assert client.get('/', host=host).status == 421
    service.change(site=f'site {host} {{ respond 200 "extra {number}" }}')
    assert client.get('/', host=host).text == f'extra {number}'


def listener_added(service, client, number):
    with pytest.raises(ConnectionRefusedError):
        Client(service.ports[2])
    service.change(listen='listen 127.0.0.1:{port3} plain serve')
    service.on_added = Client(service.ports[2])
    assert service.on_added.get('/route/x').text == client.get('/route/x').text == f'route {service.now["route"]}'


def certificate(service, client, number):
    name = ('odd', 'even')[number % 2]
    put_certificate(service.folder, name)
    service.change()
    assert service.leaf() == name and client.get('/').text == 'kept'


def upstream(service, client, number):
    assert client.get('/upstream/a').text == ('even', 'odd')[number % 2] + ' a'
    service.change(upstream=('odd', 'even')[number % 2])
    assert client.get('/upstream/b').text == ('odd', 'even')[number % 2] + ' b'


def origin(service, client, number):
    assert client.get('/origin/a').text == ('even', 'odd')[number % 2] + ' a'
    service.change(origin=service.origins[(number + 1) % 2].port)
    assert client.get('/origin/b').text == ('odd', 'even')[number % 2] + ' b'


def route(service, client, number):
    assert client.get('/route/a').text == f'route {number}'
    service.change(route=number + 1)
    assert client.get('/route/b').text == f'route {number + 1}'


def document_root(service, client, number):
    service.new_page(number + 1)
    assert client.get('/page.txt').text == f'page {number}'
    service.change(root=number + 1)
    assert client.get('/page.txt').text == f'page {number + 1}'


def log_file(service, client, number):
    service.change(log=number + 1)
    assert client.get(f'/logged/{number}').text == 'kept'

    def is_logged():
        return [line for line in lines_of(service.log(number + 1)) if line['path'] == f'/logged/{number}']
    wait_until(is_logged, 'the line in the new file')
    assert not [line for line in lines_of(service.log(number)) if line['path'] == f'/logged/{number}']


def site_removed(service, client, number):
    host = f'extra-{number}.localhost'
    assert client.get('/', host=host).text == f'extra {number}'
    service.change(site='')
    assert client.get('/', host=host).status == 421


def listener_removed(service, client, number):
    """Nobody comes in any more; who is in stays."""
    service.change(listen='')
    with pytest.raises(ConnectionRefusedError):
        Client(service.ports[2])
    assert client.get('/').text == service.on_added.get('/').text == 'kept'
    service.on_added.close()


KINDS = (site_added, listener_added, certificate, upstream, origin, route, document_root, log_file, site_removed, listener_removed)
PLAIN = (site_added, site_removed)  # over TLS a name that the certificate does not have is misdirected in any case


# ---- Sessions

def s_client(service, *arguments):
    request = b'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
    done = subprocess.run(['openssl', 's_client', '-connect', f'127.0.0.1:{service.port}', '-servername', 'localhost', '-ign_eof',
                           '-tls1_3', *arguments], input=request, capture_output=True, timeout=60, check=False)
    return done.stdout.decode(errors='replace')


@contextlib.contextmanager
def loads(service):
    """Clients that ask without a pause; each request has a line of its own in the log."""
    options = {'threads': 1, 'path': '/app/', 'requests_per_connection': 10 ** 6, 'pause': 0.004,
               'expect': lambda response, token: response.text == 'even ' + token}
    with Load(service.ports[1], **options) as plain, Load(service.port, tls=tls_context(), **options) as tls, \
            Load(service.port, tls=tls_context(), **{**options, 'requests_per_connection': 1, 'pause': 0.02}) as new:
        yield plain, tls, new


class Upload:
    """Begun before the first change, and its last byte is sent behind the last one: it goes by the configuration of its
    beginning, which stays as long."""

    def __init__(self, service):
        self.client, self.body, self.sent = Client(service.port, tls_context()), content('upload', 1 << 20), 0
        self.client.send(f'POST /app/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(self.body)}\r\n\r\n')
        self.send(0.1)

    def send(self, part):
        until = int(len(self.body) * part)
        self.client.send(self.body[self.sent:until])
        self.sent = until

    def end(self):
        self.send(1)
        response = self.client.response()
        self.client.close()
        return response.status == 200 and response.text == hashlib.sha256(self.body).hexdigest()


def make_big(folder):
    data = content('big', 16 << 20)
    digest = hashlib.sha256()
    with open(folder + '/big/big.bin', 'wb') as file:
        for _ in range(BIG // len(data)):
            file.write(data)
            digest.update(data)
    return digest.hexdigest(), BIG // len(data) * len(data)


def check_lines(service, running):
    """Of each request that was answered one line in one of the files, and it says `ok`."""
    tokens = {token for load in running for token in load.tokens}

    def found():
        lines = [line for path in glob.glob(service.folder + '/logs/*') for line in lines_of(path)]
        return [line for line in lines if line['path'].startswith('/app/') and line['path'] != '/app/upload']
    wait_until(lambda: len(found()) >= len(tokens), lambda: f'{len(tokens)} lines, not {len(found())}', every=0.5)
    assert sorted(line['path'].rpartition('/')[2] for line in found()) == sorted(tokens)
    assert {line['end'] for line in found()} == {'ok'}


def reload_all(service, clients, download, socket, upload):
    """Most configurations that a worker had at once, and the slowest change."""
    most, slowest, count = 0, 0, 0
    for number in range(ROUNDS):
        for kind in KINDS:
            began = time.monotonic()
            kind(service, clients[kind], number)
            slowest = max(slowest, time.monotonic() - began)
            count += 1
            most = max([most, *map(snapshots_of, service.pids('worker'))])
            assert download.allow(count / (ROUNDS * len(KINDS) + 1)), download.failure
            assert socket.say()
            upload.send(0.1 + 0.8 * count / (ROUNDS * len(KINDS)))
    return most, slowest


@pytest.mark.soak
def test_a_hundred_reloads(folder):
    os.mkdir(folder + '/one')
    os.chmod(folder, 0o755)
    with Origin(Application('even')) as even, Origin(Application('odd')) as odd, Service((even, odd), folder + '/one') as service:
        digest, size = make_big(service.folder)
        assert 'New, TLS' in s_client(service, '-sess_out', folder + '/session')
        clients = {kind: Client(service.ports[1]) if kind in PLAIN else Client(service.port, tls_context()) for kind in KINDS}
        socket = WebSocket(Client(service.port, tls_context()))
        download = Download(Client(service.port, tls_context()), '/big.bin', size)
        download.start()
        upload = Upload(service)
        with loads(service) as running:
            for client in clients.values():
                assert client.get('/').text == 'kept'
            assert socket.say() and download.allow(0.001)
            service.settle()
            before, pids = held(service), service.roles()
            most, slowest = reload_all(service, clients, download, socket, upload)
            assert upload.end()
            wait_until(lambda: sorted(service.roles()) == sorted(pids), lambda: f'{service.roles()} to be {pids}')
            wait_until(lambda: all(snapshots_of(pid) == 1 for pid in service.pids('worker')), 'one configuration in each worker')
            grown = check_held(service, before)
            assert socket.say() and download.allow(1), download.failure
            for load in running:
                load.stop()
        assert not [load.failed[:3] for load in running if load.failed] and not any(load.retried for load in running)
        assert download.digest.hexdigest() == digest
        assert 'Reused, TLS' in s_client(service, '-sess_in', folder + '/session')
        # Only `files` has other folders than before; everybody else lived through all of it.
        changed = {role for role, pid in service.roles().items() if pids[role] != pid}
        assert changed == {'files'}, changed
        assert 2 <= most <= MOST_AT_ONCE, most
        check_lines(service, running)
        print(f'figures: {ROUNDS * len(KINDS)} reloads, {sum(load.done for load in running)} requests, 0 failed; {size >> 20} MiB and '
              f'{socket.said} messages of one download and one WebSocket, one upload; at most {most} configurations in a worker; '
              f'the slowest change was seen after {slowest:.2f} s; {grown}')
        for client in (*clients.values(), socket.client, download.client):
            client.close()


def check_held(service, before):
    """Everybody has what he had before. What it was at most, for people."""
    def too_much():
        now = held(service)
        return {role: (before[role], now.get(role)) for role in before
                if role not in now or now[role][0] > before[role][0] + MORE_DESCRIPTORS or now[role][1] > before[role][1] + MORE_KIB}
    wait_until(lambda: not too_much(), lambda: f'descriptors and memory as before: {too_much()}')
    now = held(service)
    return 'descriptors and KiB more: ' + ', '.join(
        f'{role} {now[role][0] - before[role][0]:+d} {now[role][1] - before[role][1]:+d}' for role in sorted(before))
