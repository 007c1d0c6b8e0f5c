"""`git clone` and `git push` through git-http-backend (nginx, fcgiwrap) behind HTTPS, as docs/applications.md says."""
import gzip
import os
import shutil
import subprocess

import pytest

from applications import NGINX, Server, environment, manual, needs, nginx, ours, run
from gateway import SOAK, Gateway, free_port, new_folder

BLOCKS = 500 if SOAK else 50  # MiB, in files of 10
NAME = 'git.internal'


@pytest.fixture(scope='module')
def server():
    needs(NGINX, 'nginx')
    needs('fcgiwrap', 'fcgiwrap')
    needs('git', 'git')
    folder, port = new_folder(), free_port()
    wrap = folder + '/fcgiwrap.socket'
    home = folder + '/home'
    os.makedirs(home)
    one = None
    try:
        # fcgiwrap runs as who owns the repositories; nginx as Debian's user of it.
        with Server(['fcgiwrap', '-c', '4', '-s', f'unix:{wrap}'], wrap, folder, HOME=home):
            os.chmod(wrap, 0o666)
            text = manual('git', 'nginx', changes={'127.0.0.1:8081': f'127.0.0.1:{port}', '/run/fcgiwrap.socket': wrap, '/srv/git': folder + '/git'})
            with nginx(folder, text, port), Gateway(ours('git', {'127.0.0.1:8081': f'127.0.0.1:{port}'})) as one:
                one.home, one.repositories = home, folder + '/git'
                one.url = f'https://{NAME}:{one.port}'
                with open(home + '/.gitconfig', 'w', encoding='utf-8') as file:
                    file.write(f'[http]\n\tsslCAInfo = {one.root()}\n\tcurloptResolve = {NAME}:{one.port}:127.0.0.1\n'
                               '[user]\n\tname = A\n\temail = a@git.internal\n[init]\n\tdefaultBranch = main\n'
                               '[core]\n\tcompression = 0\n[pack]\n\twindow = 0\n[gc]\n\tauto = 0\n')
                yield one
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def git(server, *words, code=0, **env):
    return run('git', *words, code=code, seconds=600, env=environment(server.home, GIT_TERMINAL_PROMPT='0', **env))


def verbose(server, *words):
    """A command that tells each field that it sends."""
    return subprocess.run(['git', *words], capture_output=True, text=True, timeout=600, check=False,
                          env=environment(server.home, GIT_TERMINAL_PROMPT='0', GIT_CURL_VERBOSE='1'))


def new_repository(server, name, may_push=True):
    path = f'{server.repositories}/{name}.git'
    git(server, 'init', '-q', '--bare', path)
    if may_push:
        git(server, '-C', path, 'config', 'http.receivepack', 'true')
    return path


def commit(server, work):
    git(server, '-C', work, 'add', '.')
    git(server, '-C', work, 'commit', '-qm', 'more')


def head(server, path):
    return git(server, '-C', path, 'rev-parse', 'HEAD').strip()


def write(path, data):
    with open(path, 'wb') as file:
        file.write(data)


@pytest.mark.soak
def test_push_and_clone(server, folder):
    """A push that does not fit into http.postBuffer goes in chunks; what comes back is the same, object by object."""
    there, work = new_repository(server, 'big'), folder + '/work'
    git(server, 'clone', '-q', f'{server.url}/big.git', work)
    for i in range(BLOCKS // 10):
        write(f'{work}/{i}.bin', os.urandom(10 << 20))
    commit(server, work)
    done = verbose(server, '-C', work, 'push', '-q', 'origin', 'main')
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'transfer-encoding: chunked' in done.stderr.lower()
    record = server.record('/big.git/git-receive-pack')
    record = record[-1] if isinstance(record, list) else record
    assert record['status'] == 200 and record['end'] == 'ok' and record['bytes_in'] > BLOCKS << 20

    again = folder + '/again'
    git(server, 'clone', '-q', f'{server.url}/big.git', again)
    git(server, '-C', again, 'fsck', '--full')
    assert head(server, again) == head(server, work) == head(server, there)
    assert git(server, '-C', again, 'ls-tree', '-r', 'HEAD') == git(server, '-C', work, 'ls-tree', '-r', 'HEAD')
    print(f'figures: {BLOCKS} MiB pushed in {record["duration_ms"] / 1000:.1f} s, '
          f'cloned in {server.record("/big.git/git-upload-pack", 1)["duration_ms"] / 1000:.1f} s')


def test_fetch_with_much_to_negotiate(server, folder):
    """Many `have` lines: git compresses that request (Content-Encoding: gzip), and the backend reads it as it was sent."""
    new_repository(server, 'many')
    work, other = folder + '/work', folder + '/other'
    for path in (work, other):
        git(server, 'init', '-q', path)
        stream = ''.join(f'commit refs/heads/main\ncommitter A <a@git.internal> {1700000000 + i} +0000\ndata {len(path)}\n{path}\n'
                         f'M 100644 inline f\ndata {len(str(i))}\n{i}\n' for i in range(300))
        subprocess.run(['git', '-C', path, 'fast-import', '--quiet'], input=stream, text=True, check=True,
                       env=environment(server.home))
        git(server, '-C', path, 'remote', 'add', 'origin', f'{server.url}/many.git')
    git(server, '-C', work, 'push', '-q', 'origin', 'main')
    done = verbose(server, '-C', other, '-c', 'protocol.version=0', 'fetch', '-q')
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'content-encoding: gzip' in done.stderr.lower()
    assert git(server, '-C', other, 'rev-parse', 'origin/main').strip() == head(server, work)


def test_expect_100_continue(server, folder):
    """As git asks where it may have to prove who it is first: the body is sent after a 100, and the answer is git's own."""
    new_repository(server, 'asked')
    want = f'{len("0000") + 46:04x}'  # a request for an object that nobody has: git says so itself
    body = f'{want}want {"1" * 40}\n00000009done\n'.encode()
    write(folder + '/body', body)
    write(folder + '/body.gz', gzip.compress(body))
    for name, field in (('body', 'X-Plain: yes'), ('body.gz', 'Content-Encoding: gzip')):
        done = subprocess.run(['curl', '-sSv', '--cacert', server.root(), '--resolve', f'{NAME}:{server.port}:127.0.0.1', '-H', 'Expect: 100-continue',
                               '-H', 'Transfer-Encoding: chunked', '-H', 'Content-Type: application/x-git-upload-pack-request', '-H', field,
                               '--expect100-timeout', '25', '--data-binary', f'@{folder}/{name}', f'{server.url}/asked.git/git-upload-pack'],
                              capture_output=True, timeout=60, check=False)
        said = done.stderr.decode()
        assert done.returncode == 0 and '< HTTP/1.1 100' in said and '< HTTP/1.1 200' in said, said
        assert b'not our ref ' + b'1' * 40 in done.stdout, done.stdout


def test_a_push_that_git_refuses(server, folder):
    """Without http.receivepack git says 403 before it reads a byte, and the client shows it."""
    there, work = new_repository(server, 'closed', may_push=False), folder + '/work'
    git(server, 'clone', '-q', f'{server.url}/closed.git', work)
    write(work + '/a', os.urandom(3 << 20))
    commit(server, work)
    done = verbose(server, '-C', work, 'push', '-q', 'origin', 'main')
    assert done.returncode and '403' in done.stderr, done.stderr
    assert not git(server, '-C', there, 'for-each-ref')
