"""verdaccio, a registry of npm packages, behind HTTPS as docs/applications.md says; its client is npm."""
import base64
import json
import os
import shutil

import pytest

from applications import Server, environment, manual, needs, ours, run
from client import get, tls_context
from gateway import ROOT, Gateway, free_port, new_folder

VERDACCIO = ROOT + '/deps/npm/verdaccio/node_modules/verdaccio/bin/verdaccio'


@pytest.fixture(scope='module')
def packages():
    node = shutil.which('node')
    if not node:
        pytest.skip('no node on this machine')
    needs('npm', 'npm')
    if not os.path.exists(VERDACCIO):
        pytest.skip('verdaccio could not be had from the npm registry')
    folder, port = new_folder(), free_port()
    home = folder + '/home'
    os.makedirs(home)
    with open(folder + '/config.yaml', 'w', encoding='utf-8') as file:
        file.write(manual('verdaccio', 'yaml', changes={'127.0.0.1:4873': f'127.0.0.1:{port}', '/srv/verdaccio': folder + '/storage'}))
    # npm has no word for an address of a name: so the name is one that every machine has.
    text = ours('verdaccio', {'packages.internal': 'localhost', '127.0.0.1:4873': f'127.0.0.1:{port}'},
                'listen 127.0.0.1:{port}\nlisten [::1]:{port}')
    try:
        with Server([node, VERDACCIO, '-c', folder + '/config.yaml'], port, folder, **environment(home)) as server, Gateway(text) as one:
            one.server, one.home, one.url = server, home, f'https://localhost:{one.port}/'
            run('sh', '-ec', manual('verdaccio', 'sh', changes={'https://packages.internal/': one.url, '/etc/portcullis/root.pem': one.root()}),
                env=environment(home), cwd=home)
            yield one
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def npm(packages, *words, cwd, code=0):
    return run('npm', *words, '--no-audit', '--no-fund', '--no-update-notifier', cwd=cwd, code=code, env=environment(packages.home))


def ask(packages, path):
    return get(packages.port, path, tls=tls_context(packages.root()), name='localhost', host=f'localhost:{packages.port}')


def log_in(packages):
    """What `npm login` asks for at a terminal and sends."""
    user = json.dumps({'name': 'alice', 'password': 'correct horse'}).encode()
    with open(packages.home + '/user.json', 'wb') as file:
        file.write(user)
    said = run('curl', '-sS', '--cacert', packages.root(), '-X', 'PUT', '-H', 'Content-Type: application/json', '--data-binary',
               f'@{packages.home}/user.json', f'{packages.url}-/user/org.couchdb.user:alice')
    with open(packages.home + '/.npmrc', 'a', encoding='utf-8') as file:
        file.write(f'//localhost:{packages.port}/:_authToken={json.loads(said)["token"]}\n')


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text if isinstance(text, str) else json.dumps(text))


def test_publish_and_install(packages, folder):
    """What was published is what is installed; every address that the registry tells is https and the gateway's."""
    noise = base64.b64encode(os.urandom(3 << 20)).decode()
    write(folder + '/lib/package.json', {'name': '@shop/lib', 'version': '1.2.3', 'main': 'index.js', 'license': 'MIT'})
    write(folder + '/lib/index.js', f'module.exports = "{noise}";\n')
    npm(packages, 'publish', '--access', 'public', cwd=folder + '/lib', code=1)  # nobody said who he is
    assert ask(packages, '/@shop%2flib').status == 404
    log_in(packages)
    npm(packages, 'publish', '--access', 'public', cwd=folder + '/lib')

    document = json.loads(ask(packages, '/@shop%2flib').body)
    tarball = document['versions']['1.2.3']['dist']['tarball']
    assert tarball == f'{packages.url}@shop/lib/-/lib-1.2.3.tgz'

    write(folder + '/app/package.json', {'name': 'app', 'version': '1.0.0', 'private': True})
    # As on another machine: what npm published from here it would take out of its own cache.
    npm(packages, 'install', '--cache', folder + '/cache', '@shop/lib@^1.0.0', cwd=folder + '/app')
    with open(folder + '/app/node_modules/@shop/lib/index.js', encoding='utf-8') as file:
        assert noise in file.read()
    with open(folder + '/app/package-lock.json', encoding='utf-8') as file:
        assert json.load(file)['packages']['node_modules/@shop/lib']['resolved'] == tarball
    assert run('node', '-e', 'console.log(require("@shop/lib").length)', cwd=folder + '/app').strip() == str(len(noise))
    assert [r['end'] for r in packages.records if r['path'].endswith('.tgz')] == ['ok']


def test_a_version_that_is_there(packages, folder):
    """The registry's own refusal reaches npm as it is."""
    write(folder + '/lib/package.json', {'name': 'once', 'version': '1.0.0', 'license': 'MIT'})
    write(folder + '/lib/index.js', '')
    npm(packages, 'publish', cwd=folder + '/lib')
    npm(packages, 'publish', cwd=folder + '/lib', code=1)
    assert [r['status'] for r in packages.records if r['method'] == 'PUT' and r['path'] == '/once'][0] == 201
