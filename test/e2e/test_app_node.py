"""A Node application with WebSockets (the package ws) and server-sent events behind HTTPS, as docs/applications.md says, in
Chromium and by curl; reloads of the gateway end neither."""
import json
import os
import shutil
import subprocess

import pytest

from applications import Server, ours
from browser import Browser, needs_browser, trusting_home
from client import get, tls_context
from gateway import ROOT, Gateway, free_port, wait_until

NAME = 'chat.internal'
MODULES = '/usr/share/nodejs'  # where Debian has node-ws


@pytest.fixture(scope='module')
def chat(tmp_path_factory):
    node = shutil.which('node')
    if not node:
        pytest.skip('no node on this machine')
    if not os.path.isdir(MODULES + '/ws'):
        pytest.skip('node-ws is not installed')
    port = free_port()
    text = ours('Node', {'127.0.0.1:3000': f'127.0.0.1:{port}'})
    with Server([node, ROOT + '/test/e2e/chat.js'], port, str(tmp_path_factory.mktemp('chat')), PORT=str(port), NODE_PATH=MODULES), \
            Gateway(text) as one:
        one.text = text
        yield one


def ask(chat, path):
    return get(chat.port, path, tls=tls_context(chat.root()), name=NAME)


def reload(chat):
    """One that changes the site: what is under way keeps what it began with."""
    chat.reloads = getattr(chat, 'reloads', 0) + 1
    chat.reload_well(chat.text.replace('proxy ', f'respond 200 "{chat.reloads}" on /reloads\n    proxy '))
    assert ask(chat, '/reloads').text == str(chat.reloads)


def test_in_a_browser(chat, folder):
    needs_browser()
    with Browser(chat, trusting_home(chat, folder), NAME) as browser:
        browser.go(f'https://{NAME}/')
        browser.js('connect()')
        assert browser.js('socket.extensions') == 'permessage-deflate'  # between browser and application
        browser.js('listen().then(() => 0)')
        assert browser.js('seen') == ['event 0']
        assert browser.js('echo(10)') == 0 and browser.js('echo(1 << 20)') == 0
        assert [browser.js('next()') for _ in range(3)] == ['event 1', 'event 2', 'event 3']

        for i in range(2):
            reload(chat)
            assert browser.js(f'echo({1 << 20})') == 0
            assert browser.js('next()') == f'event {4 + i}'
        assert browser.js('[seen.length, failures]') == [6, 0]
        browser.picture('chat')

        assert browser.js('close(() => socket.send("end"))') == [4001, 'as you wish', True]
        browser.js('connect()')
        assert browser.js('(socket.send("who"), once(socket, "message").then(event => event.data))') == 'https 127.0.0.1'
        assert browser.js('close(() => socket.close(3000, "enough"))') == [3000, 'enough', True]
        wait_until(lambda: [3000, 'enough'] in json.loads(ask(chat, '/closed').body), 'the application to see the code')
        browser.js('connect()')
    # A browser that goes says so: 1001, or nothing at all.
    wait_until(lambda: json.loads(ask(chat, '/closed').body)[-1][0] in (1001, 1005, 1006) and len(json.loads(ask(chat, '/closed').body)) == 3,
               'the application to see it go')
    ends = [record['end'] for record in chat.record('/socket', 3)]
    assert ends[:2] == ['ok', 'ok'], ends


def test_events_by_curl(chat):
    """Each arrives alone: the next one is not sent before."""
    process = subprocess.Popen(['curl', '-sSN', '--cacert', chat.root(), '--connect-to', f'{NAME}:443:127.0.0.1:{chat.port}',
                                f'https://{NAME}/events?name=curl'], stdout=subprocess.PIPE, text=True)
    try:
        for i in range(6):
            assert [process.stdout.readline() for _ in range(3)] == [f'id: {i}\n', f'data: event {i}\n', '\n']
            if i == 3:
                reload(chat)
            assert ask(chat, '/acknowledge?name=curl').text == 'ok'
    finally:
        process.kill()
        process.wait()
