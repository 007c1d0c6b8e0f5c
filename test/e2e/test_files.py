"""A folder of documents."""
import email.utils
import os
import random

import pytest

from client import Client, get
from gateway import SOAK, Gateway, new_folder

PAGE = b'<!doctype html><p>index'
BIG = (200 << 20) if SOAK else (20 << 20)


@pytest.fixture(scope='module')
def folder():
    path = new_folder()
    root = path + '/root'
    os.makedirs(root + '/docs/empty')
    os.makedirs(root + '/.git')
    os.makedirs(path + '/outside')
    documents = {
        'index.html': PAGE, 'docs/index.html': b'docs', 'page.html': b'page', 'style.css': b'p{}', 'app.js': b'1', 'a.txt': b'0123456789',
        'image.png': b'\x89PNG', 'noextension': b'bytes', 'with space.txt': b'space', 'ü.txt': b'umlaut', 'empty.txt': b'', '.hidden': b'no',
        '.git/config': b'no', 'weird%name.txt': b'percent', 'data.json': b'{}', 'font.woff2': b'w', 'picture.svg': b'<svg/>',
    }
    for name, content in documents.items():
        with open(os.path.join(root, name), 'wb') as file:
            file.write(content)
    with open(root + '/big.bin', 'wb') as file:
        file.write(random.Random(1).randbytes(BIG))
    with open(path + '/outside/secret.txt', 'wb') as file:
        file.write(b'secret')
    os.symlink('../outside/secret.txt', root + '/escape.txt')
    os.symlink('../outside', root + '/escape')
    os.symlink('/etc/passwd', root + '/passwd')
    os.symlink('a.txt', root + '/inside.txt')
    os.mkfifo(root + '/fifo')
    os.utime(root + '/a.txt', (1700000000, 1700000000))
    with open(root + '/unreadable.txt', 'wb') as file:
        file.write(b'no')
    os.chmod(root + '/unreadable.txt', 0)
    return path


@pytest.fixture(scope='module')
def gateway(folder):
    with Gateway('listen 127.0.0.1:{port} plain serve\nsite localhost { files {folder}/root }', folder=folder) as one:
        yield one


@pytest.mark.parametrize('path, media, body', [
    ('/', 'text/html', PAGE), ('/index.html', 'text/html', PAGE), ('/docs/', 'text/html', b'docs'), ('/page.html', 'text/html', b'page'),
    ('/style.css', 'text/css', b'p{}'), ('/app.js', 'text/javascript', b'1'), ('/a.txt', 'text/plain', b'0123456789'),
    ('/image.png', 'image/png', b'\x89PNG'), ('/noextension', 'application/octet-stream', b'bytes'), ('/with%20space.txt', 'text/plain', b'space'),
    ('/%C3%BC.txt', 'text/plain', b'umlaut'), ('/empty.txt', 'text/plain', b''), ('/weird%25name.txt', 'text/plain', b'percent'),
    ('/data.json', 'application/json', b'{}'), ('/font.woff2', 'font/woff2', b'w'), ('/picture.svg', 'image/svg+xml', b'<svg/>'),
    ('/inside.txt', 'text/plain', b'0123456789'), ('/docs/../a.txt', 'text/plain', b'0123456789'), ('/a%2etxt', 'text/plain', b'0123456789'),
    ('/a.txt?query', 'text/plain', b'0123456789')])
def test_documents(gateway, path, media, body):
    response = get(gateway.port, path)
    assert (response.status, response.body) == (200, body)
    assert response.get('Content-Type').partition(';')[0] == media
    assert response.get('ETag') and response.get('Last-Modified') and response.get('Accept-Ranges') == 'bytes'


@pytest.mark.parametrize('path', [
    '/nothing', '/.hidden', '/.git/config', '/.git/', '/%2ehidden', '/docs/../.hidden', '/escape.txt', '/escape/secret.txt', '/passwd', '/fifo',
    '/docs/empty/', '/a.txt/', '/a.txt/b', '/../outside/secret.txt', '/..%2foutside/secret.txt', '/%2e%2e/outside/secret.txt',
    '/docs/%2e%2e/%2e%2e/outside/secret.txt', '/a.txt%00', '/..\\outside\\secret.txt', '//etc/passwd', '/docs//..//..//outside/secret.txt'])
def test_what_is_not_there(gateway, path):
    response = get(gateway.port, path)
    assert response.status in ((400, 404) if '%' in path or '\\' in path or '..' in path else (404,)), response.status
    assert b'secret' not in response.body and b'root:' not in response.body


def test_unreadable(gateway):
    """The process of another user cannot open it; as the starter's own it can (tests by root)."""
    assert get(gateway.port, '/unreadable.txt').status in (403, 404, 500)


@pytest.mark.parametrize('path', ['/docs', '/docs?a=b'])
def test_a_folder_without_its_slash(gateway, path):
    response = get(gateway.port, path)
    assert response.status == 308 and response.get('Location').endswith('/docs/' + path[5:])
    assert not response.get('Location').startswith('//')


def test_no_open_redirect(gateway):
    response = get(gateway.port, '//docs')
    assert not (response.get('Location') or '').startswith('//')


@pytest.mark.parametrize('asked, status, body, content_range', [
    ('bytes=0-3', 206, b'0123', 'bytes 0-3/10'), ('bytes=5-', 206, b'56789', 'bytes 5-9/10'), ('bytes=-2', 206, b'89', 'bytes 8-9/10'),
    ('bytes=0-100', 206, b'0123456789', 'bytes 0-9/10'), ('bytes=-100', 206, b'0123456789', 'bytes 0-9/10'), ('bytes=9-9', 206, b'9', 'bytes 9-9/10'),
    ('bytes=10-', 416, None, 'bytes */10'), ('bytes=-0', 416, None, 'bytes */10'), ('bytes=3-1', 200, b'0123456789', None),
    ('bytes=0-1,3-4', 200, b'0123456789', None), ('lines=0-1', 200, b'0123456789', None), ('bytes=a-b', 200, b'0123456789', None)])
def test_ranges(gateway, asked, status, body, content_range):
    response = get(gateway.port, '/a.txt', f'Range: {asked}')
    assert (response.status, response.get('Content-Range')) == (status, content_range)
    assert body is None or response.body == body


def test_conditions(gateway):
    with Client(gateway.port) as client:
        first = client.get('/a.txt')
        tag, date = first.get('ETag'), first.get('Last-Modified')
        assert date == email.utils.formatdate(1700000000, usegmt=True)
        for fields, status in [
                ([f'If-None-Match: {tag}'], 304), ([f'If-None-Match: "x", {tag}'], 304), (['If-None-Match: *'], 304), ([f'If-None-Match: W/{tag}'], 304),
                (['If-None-Match: "x"'], 200), ([f'If-Modified-Since: {date}'], 304), (['If-Modified-Since: Tue, 01 Jan 2019 00:00:00 GMT'], 200),
                (['If-None-Match: "x"', f'If-Modified-Since: {date}'], 200), ([f'If-Match: {tag}'], 200), (['If-Match: "x"'], 412),
                ([f'If-Unmodified-Since: {date}'], 200), (['If-Unmodified-Since: Tue, 01 Jan 2019 00:00:00 GMT'], 412),
                (['Range: bytes=0-1', f'If-Range: {tag}'], 206), (['Range: bytes=0-1', 'If-Range: "x"'], 200),
                (['Range: bytes=0-1', 'If-Range: Tue, 01 Jan 2019 00:00:00 GMT'], 200)]:
            response = client.get('/a.txt', *fields)
            assert response.status == status, fields
            assert status != 304 or (response.get('ETag') == tag and not response.body)


def test_head(gateway):
    with Client(gateway.port) as client:
        response = client.get('/a.txt', method='HEAD')
        assert (response.status, response.get('Content-Length')) == (200, '10')
        assert client.get('/empty.txt', method='HEAD').get('Content-Length') == '0'
        assert client.get('/nothing', method='HEAD').status == 404
        assert client.get('/a.txt').body == b'0123456789'


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'PATCH'])
def test_other_methods(gateway, method):
    response = get(gateway.port, '/a.txt', method=method, body=b'x')
    assert response.status == 405 and response.get('Allow') and 'GET' in response.get('Allow')


@pytest.mark.soak
def test_a_big_one(gateway, folder):
    with open(folder + '/root/big.bin', 'rb') as file:
        want = file.read()
    with Client(gateway.port) as client:
        assert client.get('/big.bin').body == want
        for start, end in ((0, 0), (1, 300000), (BIG - 5, BIG - 1), (16384, 16384 * 3), (BIG // 2 - 1, BIG // 2 + 262144)):
            response = client.get('/big.bin', f'Range: bytes={start}-{end}')
            assert response.status == 206 and response.body == want[start:end + 1]
    # Twelve at once, read slowly and quickly.
    clients = [Client(gateway.port) for _ in range(12)]
    for client in clients:
        client.request('GET', '/big.bin', 'Range: bytes=0-2000000')
    for client in clients:
        assert client.response().body == want[:2000001]
        client.close()


def test_a_new_version_is_served(gateway, folder):
    """Within the second that a worker may keep what it read."""
    path = folder + '/root/changing.txt'
    with open(path, 'w', encoding='utf-8') as file:
        file.write('old')
    with Client(gateway.port) as client:
        assert client.get('/changing.txt').text == 'old'
        with open(path + '.new', 'w', encoding='utf-8') as file:
            file.write('newer')
        os.rename(path + '.new', path)
        from gateway import wait_until
        wait_until(lambda: client.get('/changing.txt').text == 'newer', 'the new version')
        os.unlink(path)
        wait_until(lambda: client.get('/changing.txt').status == 404, 'its end')


def test_a_root_that_is_a_symlink_is_switched_by_a_reload(folder):
    """A release is switched by its symlink: the next reload serves it."""
    for name in ('one', 'two'):
        os.makedirs(f'{folder}/releases/{name}')
        with open(f'{folder}/releases/{name}/v.txt', 'w', encoding='utf-8') as file:
            file.write(name)
    os.symlink('releases/one', folder + '/current')
    with Gateway('listen 127.0.0.1:{port} plain serve\nsite localhost { files %s/current }' % folder) as gateway:
        assert get(gateway.port, '/v.txt').text == 'one'
        os.symlink('releases/two', folder + '/current.new')
        os.rename(folder + '/current.new', folder + '/current')
        gateway.reload_well()
        assert get(gateway.port, '/v.txt').text == 'two'


def test_on_appends_the_whole_path(folder):
    os.makedirs(folder + '/srv/assets', exist_ok=True)
    with open(folder + '/srv/assets/x.txt', 'w', encoding='utf-8') as file:
        file.write('asset')
    text = 'listen 127.0.0.1:{port} plain serve\nsite localhost { files %s/srv on /assets/*; respond 200 "else" }'
    with Gateway(text % folder) as gateway:
        assert get(gateway.port, '/assets/x.txt').text == 'asset'
        assert get(gateway.port, '/x.txt').text == 'else'
