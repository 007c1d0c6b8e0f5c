"""PHP-FPM behind nginx behind HTTPS, as docs/applications.md says: what a script is told, a form with a file, sessions, streams, ranges."""
import glob
import hashlib
import json
import os
import pwd
import shutil

import pytest

from applications import NGINX, Server, manual, needs, nginx, ours, run
from client import Client, get, tls_context
from gateway import Gateway, free_port, new_folder, wait_until

NAME, ANOTHER = 'blog.internal', '127.0.0.77'

SCRIPTS = {
    'server.php': '''<?php
header('Content-Type: application/json');
$names = ['HTTPS', 'REMOTE_ADDR', 'REQUEST_METHOD', 'REQUEST_URI', 'HTTP_HOST', 'HTTP_X_FORWARDED_FOR', 'HTTP_X_FORWARDED_PROTO'];
echo json_encode(array_intersect_key($_SERVER, array_flip($names)));
''',
    'upload.php': '''<?php
header('Content-Type: application/json');
$file = $_FILES['document'] ?? ['error' => 'none'];
if ($file['error'] === UPLOAD_ERR_OK) $file['sha256'] = hash_file('sha256', $file['tmp_name']);
echo json_encode(['title' => $_POST['title'] ?? null, 'file' => $file]);
''',
    'count.php': '''<?php
session_start();
$_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
echo $_SESSION['count'];
''',
    # Each piece waits until the reader has said, by a request of its own, that it has the one before.
    'stream.php': '''<?php
header('Content-Type: text/plain');
header('X-Accel-Buffering: no');
while (ob_get_level()) ob_end_flush();
for ($i = 0; $i < 4; $i++) {
    echo "piece $i\\n";
    flush();
    for ($tries = 0; !file_exists("FOLDER/heard/$i") && $tries < 1500; $tries++) { usleep(20000); clearstatcache(); }
}
''',
    'heard.php': '<?php touch("FOLDER/heard/" . (int)$_GET["piece"]); echo "ok";',
    'send.php': '<?php header("X-Accel-Redirect: /inside/film.bin"); header("Content-Type: video/x-film"); header("Content-Disposition: attachment");',
    'break.php': '<?php header("Content-Type: text/plain"); http_response_code(503); header("Retry-After: 7"); echo "the application\'s own page";',
}
# What somebody adds who sends protected files; nginx's own documentation has it.
INSIDE = 'location /inside/ { internal; alias FOLDER/inside/; }\n    location ~ '


@pytest.fixture(scope='module')
def blog():
    found = sorted(glob.glob('/usr/sbin/php-fpm*'))
    if not found:
        pytest.skip('php-fpm is not installed')
    needs(NGINX, 'nginx')
    folder, port = new_folder(), free_port()
    for name in ('blog', 'inside', 'heard', 'sessions', 'tmp'):
        os.mkdir(f'{folder}/{name}')
    for name, text in SCRIPTS.items():
        with open(f'{folder}/blog/{name}', 'w', encoding='utf-8') as file:
            file.write(text.replace('FOLDER', folder))
    film = os.urandom(3 << 20)
    for path in ('inside', 'blog'):
        with open(f'{folder}/{path}/film.bin', 'wb') as file:
            file.write(film)
    pool = f'[global]\nerror_log = {folder}/fpm.log\n[www]\nlisten = {folder}/php.sock\nlisten.mode = 0666\npm = static\npm.max_children = 4\n'
    if os.geteuid() == 0:
        user = pwd.getpwnam('www-data')
        for name in ('heard', 'sessions', 'tmp'):
            os.chown(f'{folder}/{name}', user.pw_uid, user.pw_gid)
        pool += 'user = www-data\ngroup = www-data\n'
    with open(folder + '/pool.conf', 'w', encoding='utf-8') as file:
        file.write(pool)
    with open(folder + '/php.ini', 'w', encoding='utf-8') as file:
        file.write(manual('PHP-FPM', 'ini') + f'session.save_path = {folder}/sessions\nupload_tmp_dir = {folder}/tmp\n')
    servers = manual('PHP-FPM', 'nginx', changes={
        '127.0.0.1:8080': f'127.0.0.1:{port}', '/srv/blog': folder + '/blog', '/run/php/php-fpm.sock': folder + '/php.sock',
        'location ~ ': INSIDE.replace('FOLDER', folder)})
    one = None
    try:
        with Server([found[-1], '-F', '-c', folder + '/php.ini', '-y', folder + '/pool.conf'], folder + '/php.sock', folder), \
                nginx(folder, servers, port), Gateway(ours('PHP-FPM', {'127.0.0.1:8080': f'127.0.0.1:{port}'})) as one:
            one.film, one.files = film, folder
            yield one
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ask(blog, path, *fields, **options):
    return get(blog.port, path, *fields, tls=tls_context(blog.root()), name=NAME, **options)


def curl(blog, *words):
    return run('curl', '-sS', '--cacert', blog.root(), '--connect-to', f'{NAME}:443:127.0.0.1:{blog.port}', *words)


def test_what_a_script_is_told(blog):
    told = json.loads(curl(blog, '--interface', ANOTHER, '-H', 'X-Forwarded-For: 6.6.6.6', '-H', 'X-Forwarded-Proto: http', f'https://{NAME}/server.php?a=b'))
    assert told == {'HTTPS': 'on', 'REMOTE_ADDR': ANOTHER, 'REQUEST_METHOD': 'GET', 'REQUEST_URI': '/server.php?a=b', 'HTTP_HOST': NAME,
                    'HTTP_X_FORWARDED_FOR': ANOTHER, 'HTTP_X_FORWARDED_PROTO': 'https'}
    assert blog.record('/server.php')['client'] == ANOTHER


def test_a_form_with_a_file(blog, folder):
    data = os.urandom(20 << 20)
    with open(folder + '/film.bin', 'wb') as file:
        file.write(data)
    got = json.loads(curl(blog, '-F', 'title=a film', '-F', f'document=@{folder}/film.bin', f'https://{NAME}/upload.php'))
    assert got['title'] == 'a film' and got['file']['error'] == 0 and got['file']['size'] == len(data)
    assert got['file']['sha256'] == hashlib.sha256(data).hexdigest()
    # Over the line in our configuration: refused before the application hears of it.
    with open(folder + '/film.bin', 'ab') as file:
        file.write(bytes(21 << 20))
    assert curl(blog, '-o', '/dev/null', '-w', '%{http_code}', '-F', f'document=@{folder}/film.bin', f'https://{NAME}/upload.php') == '413'
    wait_until(lambda: [r for r in blog.records if r['path'] == '/upload.php' and r['end'] == 'limit:body'], 'its record')


def test_a_session(blog):
    first = ask(blog, '/count.php')
    cookie = first.get('Set-Cookie')
    assert first.text == '1' and 'secure' in cookie.lower() and 'httponly' in cookie.lower()
    assert [ask(blog, '/count.php', f'Cookie: {cookie.partition(";")[0]}').text for _ in range(2)] == ['2', '3']
    assert ask(blog, '/count.php').text == '1'


def test_a_script_that_streams(blog):
    with Client(blog.port, tls_context(blog.root()), NAME) as client:
        client.request('GET', '/stream.php')
        head = client.head()
        assert head.status == 200 and head.get('Transfer-Encoding') == 'chunked' and not head.get('X-Accel-Buffering')
        for i in range(4):
            size = int(client.line(), 16)
            assert client.exactly(size) == f'piece {i}\n'.encode() and client.exactly(2) == b'\r\n'
            assert not os.path.exists(f'{blog.files}/heard/{i}')
            assert ask(blog, f'/heard.php?piece={i}').text == 'ok'
        assert client.line() == '0'


@pytest.mark.parametrize('path', ['/film.bin', '/send.php'])
def test_ranges(blog, folder, path):
    """Of nginx itself, and of what a script hands over to it."""
    film = blog.film
    for value, start, end in (('100-299', 100, 300), ('-10', len(film) - 10, len(film)), ('2000000-', 2000000, len(film))):
        response = ask(blog, path, f'Range: bytes={value}')
        assert response.status == 206 and response.body == film[start:end]
        assert response.get('Content-Range') == f'bytes {start}-{end - 1}/{len(film)}' and not response.get('X-Accel-Redirect')
    # A download that broke off goes on where it was.
    with open(folder + '/part', 'wb') as file:
        file.write(film[:1 << 20])
    curl(blog, '-C', '-', '-o', folder + '/part', f'https://{NAME}{path}')
    with open(folder + '/part', 'rb') as file:
        assert file.read() == film
    assert ask(blog, path, 'Range: bytes=99999999-').status == 416


def test_its_own_errors(blog):
    response = ask(blog, '/break.php')
    assert (response.status, response.text, response.get('Retry-After')) == (503, "the application's own page", '7')
    assert ask(blog, '/none.php').status == 404 and ask(blog, '/inside/film.bin').status == 404
