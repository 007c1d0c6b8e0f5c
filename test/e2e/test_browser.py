"""A browser that trusts the local CA loads a page without a warning."""
import os
import shutil
import subprocess

import pytest

import browser
from browser import needs_browser, trusting_home
from gateway import Gateway

FLAGS = [*browser.FLAGS, '--host-resolver-rules=MAP www.test 127.0.0.1']


@pytest.fixture(scope='module')
def gateway():
    needs_browser()
    with Gateway('listen 127.0.0.1:{port}\nlisten [::1]:{port}\nsite localhost www.test { files {folder}/site }', ready=False) as one:
        one.end_all()
        os.mkdir(one.folder + '/site')
        with open(one.folder + '/site/index.html', 'w', encoding='utf-8') as file:
            file.write('<!doctype html><title>t</title><link rel=stylesheet href=style.css><p id=p>plain<script src=script.js></script>')
        with open(one.folder + '/site/script.js', 'w', encoding='utf-8') as file:
            file.write('document.getElementById("p").textContent = "written over " + location.protocol')
        with open(one.folder + '/site/style.css', 'w', encoding='utf-8') as file:
            file.write('p { color: green }')
        one.wants_ready = True
        one.start()
        yield one


def browse(gateway, home, url, *more):
    done = subprocess.run(['chromium', *FLAGS, f'--user-data-dir={home}/profile', *more, url], capture_output=True, text=True,
                          timeout=60, check=False, env={**os.environ, 'HOME': home}, cwd=home)
    return done.stdout


@pytest.mark.parametrize('host', ['localhost', '127.0.0.1', 'www.test'])
def test_a_page(gateway, folder, host):
    if host == '127.0.0.1':
        gateway.reload_well('listen 127.0.0.1:{port}\nlisten [::1]:{port}\nsite localhost www.test 127.0.0.1 { files {folder}/site }')
    home = trusting_home(gateway, folder)
    shown = browse(gateway, home, f'https://{host}:{gateway.port}/', '--dump-dom')
    assert 'written over https:' in shown, shown
    browse(gateway, home, f'https://{host}:{gateway.port}/', '--window-size=600,200', f'--screenshot={home}/page.png')
    assert os.path.getsize(home + '/page.png') > 1000
    keep = os.environ.get('PORTCULLIS_SCREENSHOTS')
    if keep:
        shutil.copy(home + '/page.png', f'{keep}/page-{host}.png')


def test_a_browser_that_does_not_trust_it_warns(gateway, folder):
    """Else the test above would show nothing."""
    assert 'written over' not in browse(gateway, folder, f'https://localhost:{gateway.port}/', '--dump-dom')
