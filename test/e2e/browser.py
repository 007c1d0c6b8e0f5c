"""Chromium without a screen: what it shows of a page, or driven step by step over its debugging pipe."""
import base64
import json
import os
import select
import shutil
import subprocess
import time

import pytest

from gateway import SAFETY_SECONDS

FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage']


def needs_browser():
    for name in ('chromium', 'certutil'):
        if not shutil.which(name):
            pytest.skip(f'{name} is not installed')


def trusting_home(gateway, folder):
    """A home for a browser that trusts the gateway's local CA."""
    store = folder + '/.pki/nssdb'
    os.makedirs(store)
    subprocess.run(['certutil', '-d', f'sql:{store}', '-N', '--empty-password'], check=True, capture_output=True)
    subprocess.run(['certutil', '-d', f'sql:{store}', '-A', '-t', 'C,,', '-n', 'portcullis', '-i', gateway.root()], check=True, capture_output=True)
    return folder


class Browser:
    """`with Browser(gateway, home, 'www.test') as browser`: that name, on port 443, is the gateway's first port."""

    def __init__(self, gateway, home, name):
        self.home, self.count, self.buffer, self.events = home, 0, b'', []
        self.rules = f'--host-resolver-rules=MAP {name}:443 127.0.0.1:{gateway.port}'

    def __enter__(self):
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        self.process = subprocess.Popen(
            ['bash', '-c', f'exec chromium "$@" 3<&{theirs_in} 4>&{theirs_out}', 'bash', *FLAGS, self.rules, '--remote-debugging-pipe',
             f'--user-data-dir={self.home}/profile', 'about:blank'],
            pass_fds=[theirs_in, theirs_out], env={**os.environ, 'HOME': self.home}, cwd=self.home, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.session = None
        try:
            targets = self.call('Target.getTargets')['targetInfos']
            page = [one['targetId'] for one in targets if one['type'] == 'page'][0]
            self.session = self.call('Target.attachToTarget', targetId=page, flatten=True)['sessionId']
            self.call('Page.enable')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        os.close(self.out)  # its end ends the browser
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.into)

    def read(self):
        while b'\0' not in self.buffer:
            assert select.select([self.into], [], [], SAFETY_SECONDS)[0], 'the browser says nothing'
            data = os.read(self.into, 1 << 20)
            assert data, 'the browser ended'
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b'\0')
        return json.loads(message)

    def call(self, method, **params):
        self.count += 1
        message = {'id': self.count, 'method': method, 'params': params}
        if self.session:
            message['sessionId'] = self.session
        data = json.dumps(message).encode() + b'\0'
        while data:
            data = data[os.write(self.out, data):]
        while True:
            answer = self.read()
            if answer.get('id') == self.count:
                assert 'error' not in answer, answer
                return answer['result']
            self.events.append(answer)

    def js(self, code):
        """The value of an expression, or of the promise that it is."""
        result = self.call('Runtime.evaluate', expression=code, awaitPromise=True, returnByValue=True)
        assert 'exceptionDetails' not in result, result
        return result['result'].get('value')

    def wait_for_load(self):
        end = time.monotonic() + SAFETY_SECONDS
        while not any(event.get('method') == 'Page.loadEventFired' for event in self.events):
            assert time.monotonic() < end, f'no page: {self.events[-3:]}'
            self.events.append(self.read())

    def go(self, url):
        self.events.clear()
        result = self.call('Page.navigate', url=url)
        assert 'errorText' not in result, result
        self.wait_for_load()

    def act(self, code):
        """Runs code that leads to another page, and waits for that."""
        self.events.clear()
        self.js(code)
        self.wait_for_load()

    def fill(self, **fields):
        """Fills in the fields with these ids."""
        for name, value in fields.items():
            self.js(f'document.getElementById({json.dumps(name)}).value = {json.dumps(value)}')

    def cookies(self):
        return {one['name']: one for one in self.call('Network.getCookies')['cookies']}

    def picture(self, name):
        """Where somebody wants to look: PORTCULLIS_SCREENSHOTS names a folder."""
        keep = os.environ.get('PORTCULLIS_SCREENSHOTS')
        if keep:
            with open(f'{keep}/{name}.png', 'wb') as file:
                file.write(base64.b64decode(self.call('Page.captureScreenshot', format='png')['data']))
