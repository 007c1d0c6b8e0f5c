"""Folders as deployments leave them: roots behind symlinks that are switched, things that are no documents, roots that
may not be read, disks that are slow."""
import contextlib
import os
import signal
import socket
import stat
import subprocess
import threading

import pytest

from client import Client, Load, get
from gateway import SOAK, Gateway, is_alive, wait_until

SITE = 'listen 127.0.0.1:{port} plain serve\nsite localhost { files %s }'


def release(folder, name, inner=''):
    path = f'{folder}/releases/{name}{inner}'
    os.makedirs(path)
    with open(path + '/v.txt', 'w', encoding='utf-8') as file:
        file.write(name)


def switch(folder, target, link='current'):
    os.symlink(target, f'{folder}/{link}.new')
    os.rename(f'{folder}/{link}.new', f'{folder}/{link}')


def serves(gateway, version, path='/v.txt'):
    wait_until(lambda: get(gateway.port, path).text == version, f'release {version}')


# ---- Roots behind symlinks

@pytest.mark.parametrize('root, inner', [('current', ''), ('current/public', '/public'), ('latest', ''), ('absolute', '')],
                         ids=['itself', 'on-the-way', 'a-link-to-it', 'absolute'])
def test_a_symlink_is_followed_again(folder, root, inner):
    """Without a reload; only `files` is another one, and no request fails."""
    for name in ('41', '42', '43'):
        release(folder, name, inner)
    os.symlink('releases/41', folder + '/current')
    os.symlink('current', folder + '/latest')
    os.symlink(folder + '/current', folder + '/absolute')
    with Gateway(SITE % f'{folder}/{root}', folder=folder) as gateway:
        assert get(gateway.port, '/v.txt').text == '41'
        before = gateway.roles()
        with Load(gateway.port, threads=2, path='/v.txt?', requests_per_connection=10 ** 6,
                  expect=lambda response, token: response.status == 200 and response.text in ('41', '42', '43')) as load:
            switch(folder, 'releases/42')
            serves(gateway, '42')
            # Not all switch by renaming: for a while there is nothing.
            os.unlink(folder + '/current')
            load.wait_for(20)
            os.symlink('releases/43', folder + '/current')
            serves(gateway, '43')
            load.wait_for(20)
        assert not load.failed and not load.retried, load.failed[:3]
        wait_until(lambda: not is_alive(before['files']), 'the old `files` to end')
        assert {r: p for r, p in gateway.roles().items() if r != 'files'} == {r: p for r, p in before.items() if r != 'files'}
        # Also by one that was born since.
        os.kill(gateway.pid('files'), signal.SIGKILL)
        switch(folder, 'releases/42')
        serves(gateway, '42')


def test_a_symlink_that_leads_nowhere(folder):
    """The folder of before is served on, it is said once, and what is put right is taken up."""
    release(folder, '41')
    os.symlink('releases/41', folder + '/current')
    with Gateway(SITE % f'{folder}/current', folder=folder) as gateway:
        switch(folder, 'releases/42')
        wait_until(lambda: any(f'document root {folder}/current: there is no such file or folder' in line for line in gateway.stderr),
                   lambda: gateway.stderr)
        assert get(gateway.port, '/v.txt').text == '41'
        release(folder, '42')
        serves(gateway, '42')
        assert len([line for line in gateway.stderr if 'there is no such file' in line]) == 1, gateway.stderr


# ---- What is no document

def test_fifos_devices_and_sockets(folder):
    """Each is 404, 64 at once, while others are served; `files` never waits for one."""
    root = folder + '/root'
    os.mkdir(root)
    os.mkfifo(root + '/fifo')
    with contextlib.suppress(PermissionError):
        os.mknod(root + '/device', 0o666 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero: it has no end
        os.chmod(root + '/device', 0o666)
    os.chmod(root + '/fifo', 0o666)
    names = ['fifo', 'socket', *(['device'] if os.path.exists(root + '/device') else [])]
    with socket.socket(socket.AF_UNIX) as listening, open(root + '/a.txt', 'w', encoding='utf-8') as file:
        listening.bind(root + '/socket')
        os.chmod(root + '/socket', 0o777)
        file.write('a')
        file.flush()
        for i in range(64):  # each its own path, so that none is answered out of a cache
            os.makedirs(f'{root}/{i}')
            for name in names:
                os.link(f'{root}/{name}', f'{root}/{i}/{name}')
        with Gateway(SITE % root, folder=folder) as gateway:
            clients = [Client(gateway.port) for _ in range(64)]
            files = gateway.pid('files')
            for name in names:
                for i, client in enumerate(clients):
                    client.request('GET', f'/{i}/{name}')
                assert get(gateway.port, f'/a.txt?{name}').text == 'a'
                assert [client.response().status for client in clients] == [404] * 64, name
            for client in clients:
                client.close()
            assert gateway.pid('files') == files


# ---- Roots that may not be read

@pytest.mark.skipif(os.getuid() != 0, reason='needs root to become somebody else')
def test_a_root_that_may_not_be_entered(folder):
    """At a start and at a reload: place, folder, mode and uid. What was served before is served on, and a root that is
    closed later harms no reload."""
    for name in ('open', 'closed'):
        os.mkdir(f'{folder}/{name}')
        with open(f'{folder}/{name}/v.txt', 'w', encoding='utf-8') as file:
            file.write(name)
    os.chmod(folder + '/closed', 0o710)

    def said(line):
        return f'portcullis.conf:4:24: error: document root {folder}/closed: `files`, which serves it as uid ' in line \
            and line.endswith('may not enter it: its mode is 710, its owner uid 0')
    with Gateway(SITE % (folder + '/closed'), folder=folder, ready=False) as gateway:
        assert gateway.wait() == 1
        assert any(said(line) for line in gateway.stderr), gateway.stderr
    with Gateway(SITE % (folder + '/open'), folder=folder) as gateway:
        done = gateway.reload(SITE % (folder + '/closed'))
        assert done.returncode == 1 and any(said(line) for line in done.stderr.split('\n')), done.stderr
        assert get(gateway.port, '/v.txt').text == 'open'
        os.chmod(folder + '/open', 0o700)
        gateway.write(SITE % (folder + '/open'))
        gateway.reload_well()
        os.kill(gateway.pid('files'), signal.SIGKILL)
        wait_until(lambda: any('document root' in line and 'mode is 700' in line for line in gateway.stderr), 'a word about it')
        assert get(gateway.port, '/v.txt?again').status in (403, 404)


# ---- Slow disks

COLD_BYTES = (100 if SOAK else 16) << 20
COLD = SITE % '{folder}/root'
MOUNTS = {
    'disk': 'true',
    'tmpfs': 'mount -t tmpfs -o mode=755 tmpfs "$1/root" && cp "$1/below/"* "$1/root/"',
    'overlayfs': 'mount -t tmpfs tmpfs "$1/over" && mkdir "$1/over/up" "$1/over/work" && '
                 'mount -t overlay -o "lowerdir=$1/below,upperdir=$1/over/up,workdir=$1/over/work" overlay "$1/root"',
}


def forget(path):
    """Out of memory with it."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


@pytest.mark.soak
@pytest.mark.parametrize('where', MOUNTS)
def test_a_cold_document(folder, where):
    """Whatever is read of it plainly was read by `files` before: the worker waits for no disk. Byte for byte, also from an
    odd place on and in odd pieces, while the kernel is told again and again to forget it."""
    for name in ('root', 'below', 'over'):
        os.mkdir(f'{folder}/{name}')
    content = os.urandom(1 << 20) * (COLD_BYTES >> 20)
    below = f'{folder}/{"root" if where == "disk" else "below"}/cold.bin'
    with open(below, 'wb') as file:
        file.write(content)
    mount = f'mount --make-rprivate / && {MOUNTS[where]} || exit 99; shift; exec "$@"'
    tried = ['unshare', '--mount', 'sh', '-c', mount, 'sh', folder]
    if subprocess.run([*tried, 'true'], check=False, capture_output=True).returncode:
        pytest.skip('no mounts of our own here')
    forget(below)
    over = threading.Event()
    with Gateway(COLD, folder=folder, prefix=tried) as gateway:
        def keep_forgetting():
            while not over.wait(0.1):
                forget(below)
        forgetter = threading.Thread(target=keep_forgetting)
        forgetter.start()
        try:
            with Client(gateway.port) as client:
                assert client.get('/cold.bin').body == content
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 30000)
                start, end = 12345, 12345 + COLD_BYTES // 4
                client.request('GET', '/cold.bin', f'Range: bytes={start}-{end}')
                assert client.response().body == content[start:end + 1]
        finally:
            over.set()
            forgetter.join()
        cold, unasked = gateway.counter('documents_cold', 'worker'), gateway.counter('documents_unasked', 'worker')
        assert cold > 0 or where == 'tmpfs', 'it was never cold'
        assert unasked == 0, f'{unasked} reads of what `files` had not read ({cold} that it had)'


def test_files_that_do_not_answer_stall_nobody_else(folder):
    """`files` stands still, as on a disk that is gone: whoever wants one of its documents waits for its successor;
    everybody else is answered before, also from what a worker still holds."""
    for name in ('kept', 'asked'):
        os.makedirs(f'{folder}/root/{name}')
        with open(f'{folder}/root/{name}/a.txt', 'w', encoding='utf-8') as file:
            file.write(name)
    order, lock = [], threading.Lock()

    def answered(what):
        with lock:
            order.append(what)
    text = 'listen 127.0.0.1:{port} plain serve\nsite localhost { respond 200 "else" on /else/*; files {folder}/root }'
    with Gateway(text, folder=folder) as gateway:
        # A document in each worker: many connections land on all of them.
        held = [Client(gateway.port) for _ in range(12)]
        for client in held:
            assert client.get('/kept/a.txt').text == 'kept'

        def wait_for_a_document(client):
            assert client.get('/asked/a.txt').text == 'asked'
            answered('asked')
        stopped = gateway.pid('files')
        os.kill(stopped, signal.SIGSTOP)
        waiting = [Client(gateway.port) for _ in range(6)]
        threads = [threading.Thread(target=wait_for_a_document, args=(client,)) for client in waiting]
        for thread in threads:
            thread.start()
        for i in range(40):
            assert get(gateway.port, f'/else/{i}').text == 'else'
            assert held[i % 12].get('/kept/a.txt').text == 'kept'
        answered('others')
        for thread in threads:
            thread.join(30)
        for client in held + waiting:
            client.close()
        assert order == ['others'] + ['asked'] * 6
        assert gateway.pid('files') != stopped
