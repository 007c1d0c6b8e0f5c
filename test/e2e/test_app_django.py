"""Django under gunicorn behind HTTPS, as docs/applications.md says: its admin in Chromium, its static files by `files`."""
import os
import shutil

import pytest

from applications import Server, manual, needs, ours, run
from browser import Browser, needs_browser, trusting_home
from client import get, tls_context
from gateway import Gateway, free_port, new_folder

NAME, OTHER = 'shop.internal', 'other.internal'
PYTHON = '/usr/bin/python3'


def make_project(folder):
    """`startproject`, the page's lines at the end of its settings, and an administrator."""
    run(PYTHON, '-m', 'django', 'startproject', 'shop', folder)
    with open(folder + '/shop/settings.py', 'a', encoding='utf-8') as file:
        file.write(manual('Django', 'python', changes={'/srv/shop': folder}))
        file.write("PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']\n")  # the slow ones cost seconds here
    run(PYTHON, 'manage.py', 'migrate', cwd=folder)
    run(PYTHON, 'manage.py', 'collectstatic', '--noinput', cwd=folder)
    run(PYTHON, 'manage.py', 'createsuperuser', '--noinput', '--username', 'admin', '--email', 'a@shop.internal', cwd=folder,
        env={**os.environ, 'DJANGO_SUPERUSER_PASSWORD': 'correct horse'})


@pytest.fixture(scope='module')
def shop():
    needs('/usr/bin/gunicorn', 'gunicorn')
    needs('/usr/lib/python3/dist-packages/django', 'django')
    folder, port = new_folder(), free_port()
    make_project(folder)
    text = ours('Django', {'/srv/shop': folder, '127.0.0.1:8000': f'127.0.0.1:{port}', '{\n    files': f'{{\n    alias {OTHER}\n    files'})
    try:
        with Server(['/usr/bin/gunicorn', '--bind', f'127.0.0.1:{port}', 'shop.wsgi'], port, folder) as server, Gateway(text) as one:
            one.server = server
            yield one
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_admin_in_a_browser(shop, folder):
    """Log in, add a user, log out; what a page shows is of Django, and how it looks of our files."""
    needs_browser()
    with Browser(shop, trusting_home(shop, folder), NAME) as browser:
        browser.go(f'https://{NAME}/admin/')
        browser.fill(id_username='admin', id_password='correct horse')
        browser.act('document.getElementById("login-form").submit()')
        assert browser.js('document.title').startswith('Site administration'), browser.js('document.body.innerText')
        cookies = browser.cookies()
        assert cookies['sessionid']['secure'] and cookies['sessionid']['httpOnly'] and cookies['csrftoken']['secure']
        browser.picture('django')

        browser.go(f'https://{NAME}/admin/auth/user/add/')
        browser.fill(id_username='eve', id_password1='battery staple', id_password2='battery staple')
        browser.act('document.getElementById("user_form").submit()')
        assert 'was added successfully' in browser.js('document.body.innerText')
        browser.go(f'https://{NAME}/admin/auth/user/')
        assert 'eve' in browser.js('document.body.innerText')
        # The link of 3.2 is a form in later ones.
        browser.act('(form => form ? form.submit() : location = "/admin/logout/")(document.getElementById("logout-form"))')
        browser.go(f'https://{NAME}/admin/')
        assert 'login' in browser.js('location.pathname')
    static = [record for record in shop.records if record['path'].startswith('/static/admin/')]
    assert static and all(record['status'] in (200, 304) and 'upstream' not in record for record in static)
    assert any(record['path'].endswith('.css') for record in static)
    assert not [record for record in shop.records if record['status'] >= 500]


def ask(shop, path, *fields, **options):
    return get(shop.port, path, *fields, tls=tls_context(shop.root()), name=NAME, **options)


def test_a_form_without_its_token(shop):
    response = ask(shop, '/admin/login/', 'Content-Type: application/x-www-form-urlencoded', method='POST', body=b'username=admin')
    assert response.status == 403 and 'CSRF' in response.text


def test_what_is_not_https_is_not_believed(shop):
    """The field that Django believes is the gateway's, whatever a client says."""
    response = ask(shop, '/admin/login/', 'X-Forwarded-Proto: http', 'X-Forwarded-Host: evil.example')
    assert response.status == 200 and '; Secure' in response.get('Set-Cookie') and 'evil' not in response.text


def test_a_name_that_django_does_not_have(shop):
    """Its own refusal is shown as it is; a name that no site has gets ours."""
    response = ask(shop, '/admin/other/', host=OTHER)
    assert response.status == 400 and 'Bad Request (400)' in response.text
    record = shop.record('/admin/other/')
    assert (record['host'], record['status'], record['end']) == (OTHER, 400, 'ok')
    assert ask(shop, '/admin/login/', host='nobody.internal').status == 421
