"""All modes of the misbehaving origin at once: no answer, and no byte of one, reaches another client's connection.

The clients are a program of their own (test/origin/mixed.c); a failing run prints its seed, which
PORTCULLIS_SEED sets again."""
import os
import random
import re
import shutil
import subprocess

import pytest

import misbehaving
from gateway import ROOT, SOAK, Gateway, Process, new_folder, program, wait_until
from test_certificates import EC, openssl

SEED = int(os.environ.get('PORTCULLIS_SEED', random.randrange(1 << 30)))
CLIENTS = 96
SITES = '''
log access off
listen 127.0.0.1:{port} plain serve
listen 127.0.0.1:{port2}
site localhost { PLAIN }
site tls.localhost { TLS }
'''
RELEASE = os.path.join(ROOT, 'build/portcullis')


@pytest.fixture(scope='module')
def certificates():
    folder = new_folder()
    openssl(folder, 'req', '-x509', *EC, '-nodes', '-keyout', 'key.pem', '-out', 'cert.pem', '-subj', '/CN=localhost', '-days', '30',
            '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1')
    yield folder + '/cert.pem', folder + '/key.pem'
    shutil.rmtree(folder)


def descriptors(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def run_clients(gateway, requests, seed):
    done = subprocess.run([misbehaving.tool('mixed-clients'), misbehaving.TABLE, str(gateway.ports[0]), str(gateway.ports[1]), str(requests),
                           str(CLIENTS), str(seed)], capture_output=True, text=True, timeout=3600, check=False)
    print(done.stdout)
    assert done.returncode == 0, f'PORTCULLIS_SEED={SEED}\n{done.stdout}{done.stderr}'
    return {name: int(number) for name, number in re.findall(r'(\w+) (\d+)', done.stdout.splitlines()[-1])}


def check_rest(gateway, before):
    """Nobody is connected, nothing is under way, and each worker holds the descriptors it began with."""
    def is_at_rest():
        rows = [row for row in gateway.status() if row['process'] == 'worker']
        return all(row['connections'] == 0 and row['exchanges'] == 0 for row in rows)
    wait_until(is_at_rest, lambda: f'PORTCULLIS_SEED={SEED}: {gateway.status()}')
    # Idle connections to origins live 4 s.
    wait_until(lambda: all(descriptors(pid) <= count for pid, count in before.items()),
               lambda: f'PORTCULLIS_SEED={SEED}: {[(pid, descriptors(pid), count) for pid, count in before.items()]}')


def mixed(certificates, executable, requests):
    tls = misbehaving.MisbehavingOrigin(certificates, quiet=True)
    with misbehaving.MisbehavingOrigin(quiet=True) as plain, tls:
        text = SITES.replace('PLAIN', plain.routes()).replace('TLS', tls.routes(f'verify ca {certificates[0]}'))
        with Gateway(text, executable=executable) as gateway:
            workers = gateway.pids('worker')
            idle = {pid: descriptors(pid) for pid in workers}
            run_clients(gateway, requests // 10, SEED + 1)  # pools and heaps are filled
            check_rest(gateway, idle)
            memory = {pid: Process(pid).memory_bytes() for pid in workers}
            counts = run_clients(gateway, requests, SEED)
            check_rest(gateway, idle)
            assert gateway.pids('worker') == workers, f'PORTCULLIS_SEED={SEED}: a worker died'
            grown = {pid: Process(pid).memory_bytes() - memory[pid] for pid in workers}
    for origin in (plain, tls):
        assert not origin.foreign and origin.process.returncode == 0, (SEED, origin.foreign)
    assert counts['answered'] > requests * 0.7 and counts['left'] > requests * 0.05 and counts['batched'] > requests * 0.05, counts
    assert counts['whole'] > requests * 0.3 and counts['cut'] > requests * 0.02 and counts['pages'] > requests * 0.1, counts
    return grown


@pytest.mark.soak
def test_no_foreign_byte(certificates):
    """With sanitizers, where they are built."""
    mixed(certificates, program(), 200_000 if SOAK else 25_000)


@pytest.mark.soak
def test_no_foreign_byte_and_no_memory(certificates):
    """The program as it is used: each worker's memory is about what it was."""
    if not os.access(RELEASE, os.X_OK):
        pytest.skip('the release build is not here')
    grown = mixed(certificates, RELEASE, 1_000_000 if SOAK else 100_000)
    assert max(grown.values()) < 4 << 20, (SEED, grown)
