"""A file system that does not answer (FUSE, played by fuse_server.py) stalls nobody else: the process that has its root
hangs, and no other. Who asks for a document of it hears so after `document-wait`; when it answers again, so does the
gateway."""
import contextlib
import os
import subprocess
import threading

import pytest

from client import Client, Truncated, get
from gateway import Gateway, wait_until
from mounts import in_mounts

SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fuse_server.py')
COUNT = 63  # documents that nobody has asked for before, and `large`


class SlowDisk:
    """Mounted at `path`, for processes that are started by its `prefix`."""

    def __init__(self, path):
        self.path = path
        os.mkdir(path)
        prefix = in_mounts('true')
        self.process = subprocess.Popen([*prefix, 'python3', SERVER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        if self.process.stdout.readline() != 'mounted\n':
            self.process.wait()
            pytest.skip('no FUSE here')
        self.prefix = ['nsenter', '-t', str(self.process.pid), '-m']
        self.said, self.thread = [], threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        for line in self.process.stdout:
            self.said.append(line.strip())

    def tell(self, word):
        self.said.clear()
        self.process.stdin.write(word + '\n')
        self.process.stdin.flush()
        wait_until(lambda: word in self.said, f'the disk to hear {word}')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Its end answers whoever still waits: with an error."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait(30)
        self.thread.join(30)


@pytest.fixture
def disk(folder):
    with SlowDisk(folder + '/slow') as disk:
        yield disk


def write_fast(folder):
    os.mkdir(folder + '/fast')
    for i in range(100):
        with open(f'{folder}/fast/{i}', 'w', encoding='utf-8') as file:
            file.write(f'fast {i}')


TEXT = '''
    listen 127.0.0.1:{port} plain serve
    site fast.localhost { files {folder}/fast }
    site slow.localhost { files {folder}/slow }
'''


@pytest.fixture
def gateway(folder, disk, test_build):
    del test_build
    write_fast(folder)
    with Gateway(TEXT, folder=folder, prefix=disk.prefix) as gateway:
        yield gateway
        disk.tell('answer')  # nothing is left to wait for


def slow(gateway, path, **options):
    return get(gateway.port, path, host='slow.localhost', **options)


def fast(gateway, i):
    response = get(gateway.port, f'/{i}', host='fast.localhost')
    assert (response.status, response.text) == (200, f'fast {i}')


def make_pair(folder):
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30',
                    '-keyout', f'{folder}/one.key', '-out', f'{folder}/one.crt', '-subj', '/CN=fast.localhost',
                    '-addext', 'subjectAltName=DNS:fast.localhost'], check=True, capture_output=True)


def rows_of_files(gateway):
    return sorted((row for row in gateway.status() if row['process'] == 'files'), key=lambda row: row['slot'])


class Asking:
    """Many that ask for documents of the slow disk at once; `statuses` has what they were answered."""

    def __init__(self, gateway, paths):
        self.clients = [Client(gateway.port, name='slow.localhost', timeout=60) for _ in paths]
        for client, path in zip(self.clients, paths):
            client.request('GET', path)
        self.statuses = None

    def finish(self):
        self.statuses = [client.response().status for client in self.clients]
        for client in self.clients:
            client.close()
        return self.statuses


def test_each_file_system_has_a_process(gateway):
    rows = rows_of_files(gateway)
    assert [row['slot'] for row in rows] == [0, 1] and rows[0]['pid'] != rows[1]['pid']
    assert gateway.pids('files 1') == [rows[1]['pid']]
    assert slow(gateway, '/7').text == 'document 7 of a slow disk\n'
    fast(gateway, 7)
    # Large ones come by pieces: a worker never has a descriptor of such a file system, even closing it might wait.
    with Client(gateway.port, name='slow.localhost') as client:
        ranged = client.get('/large', 'Range: bytes=100000-299999')
        assert ranged.status == 206 and ranged.body == b'L' * 200000
    assert gateway.counter('documents_distant', 'worker') == 13  # of 16 KiB
    assert gateway.counter('documents_unasked', 'worker') == 0
    for pid in gateway.pids('worker'):
        assert not [one for one in os.listdir(f'/proc/{pid}/fd') if 'slow' in os.readlink(f'/proc/{pid}/fd/{one}')]


def ask_all(gateway, disk):
    """64 at once. Returns when the one process hangs."""
    asking = Asking(gateway, [f'/{i}' for i in range(1, COUNT + 1)] + ['/large'])
    wait_until(lambda: any(one in ('lookup', 'getattr', 'open') for one in disk.said), lambda: f'a question: {disk.said}')
    return asking


@pytest.mark.parametrize('how', ['hang', 'deaf'])
def test_it_stalls_nobody_else(gateway, disk, how):
    """hang: the kernel ends nobody who waits, not even by kill -9. deaf: it does, and the next one waits again."""
    before = {role: pid for role, pid in gateway.roles().items() if role != 'files 1'}
    kept = Client(gateway.port, name='slow.localhost')
    assert kept.get('/0').status == 200
    disk.tell(how)
    if how == 'hang':
        asking = ask_all(gateway, disk)
    else:
        asking = Asking(gateway, [f'/{i}' for i in range(1, COUNT + 1)] + ['/large'])
    for i in range(100):
        fast(gateway, i)
    assert kept.get('/0').status == 200  # what a worker has it serves on
    kept.close()
    if how == 'hang':
        wait_until(lambda: any('files 1' in line and 'no heartbeat' in line for line in gateway.stderr), gateway.stderr)
    gateway.move_clock(12, step=1)
    assert asking.finish() == [503] * 64
    for i in range(100):
        fast(gateway, i)
    disk.tell('answer')
    wait_until(lambda: rows_of_files(gateway)[1]['state'] == 'running', gateway.status)
    wait_until(lambda: slow(gateway, '/33').status == 200, 'it to serve again')
    after = {role: pid for role, pid in gateway.roles().items() if role != 'files 1'}
    assert before == after
    said = [r['end'] for r in gateway.records if r['host'] == 'slow.localhost' and r['status'] == 503]
    assert len(said) == 64 and set(said) <= {'limit:document-wait', 'helper-gone'}, said
    assert gateway.limit('heartbeat') >= 1
    if how == 'hang':
        assert gateway.limit('heartbeat') == 1
        assert set(said) == {'limit:document-wait'} and gateway.limit('document-wait') == 64


def test_a_download_under_way_ends(gateway, disk):
    with Client(gateway.port, name='slow.localhost') as client:
        client.request('GET', '/large')
        assert client.head().status == 200
        client.exactly(1 << 16)
        disk.tell('hang')
        for i in range(20):
            fast(gateway, i)
        waits = threading.Thread(target=read_to_the_end, args=(client,), daemon=True)
        waits.start()
        wait_until(lambda: any('files 1' in line and 'no heartbeat' in line for line in gateway.stderr), gateway.stderr)
        gateway.move_clock(12, step=1)
        waits.join(30)
        assert not waits.is_alive()
    record = gateway.record('/large')
    assert record['end'] == 'limit:document-wait' and record['bytes_out'] < 64 << 20
    disk.tell('answer')
    wait_until(lambda: slow(gateway, '/9').status == 200, 'it to serve again')


def read_to_the_end(client):
    with contextlib.suppress(Truncated):
        client.exactly(64 << 20, sink=lambda data: None)


def test_changes_do_not_wait_for_it(folder, disk, test_build):
    """A certificate is renewed; a reload, which opens the roots anew, says which does not answer."""
    del test_build
    write_fast(folder)
    make_pair(folder)
    text = TEXT.replace('site fast.localhost {', 'listen 127.0.0.1:{port2}\nsite fast.localhost {\n'
                        'certificate file {folder}/one.crt {folder}/one.key\n')
    with Gateway(text, folder=folder, prefix=disk.prefix) as gateway:
        disk.tell('hang')
        asking = ask_all(gateway, disk)
        wait_until(lambda: any('no heartbeat' in line for line in gateway.stderr), gateway.stderr)
        make_pair(folder)
        gateway.move_clock(61, step=1)
        wait_until(lambda: any('were taken over' in line for line in gateway.stderr), gateway.stderr)
        assert asking.finish() == [503] * 64
        reloading = subprocess.Popen([gateway.executable, 'reload', '-c', gateway.config], env=gateway.env, text=True,
                                     stderr=subprocess.PIPE)
        wait_until(lambda: any('check' in p.command for p in gateway.children()), 'the check job')
        gateway.move_clock(31, step=1)
        assert reloading.wait(60) == 1
        said = reloading.stderr.read()
        assert f'{folder}/slow' in said and 'does not answer' in said, said
        assert gateway.limit('check-time') == 1
        for i in range(20):
            fast(gateway, i)
        # A stop does not wait for it either; what it leaves ends when the disk answers.
        gateway.signal(15)
        assert gateway.wait() == 0
        disk.tell('answer')
        wait_until(lambda: not gateway.left(), gateway.left)
