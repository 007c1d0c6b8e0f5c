"""Folders as deployments leave them: roots behind symlinks that are switched, things that are no documents, roots that
may not be read, disks that are slow."""
import contextlib
import os
import signal
import socket
import stat
import threading

import pytest

from client import Client, Load, get
from gateway import Gateway, is_alive, run_command, wait_until

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
