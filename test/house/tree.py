"""A tree as the house tests see it: this repository, or one of the small ones under fixtures/."""
import os
import re
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


class Tree:
    def __init__(self, root, is_fixture=False):
        self.root, self.is_fixture = root, is_fixture
        self.layers_path = os.path.join(root if self.has('src/layers.txt') else ROOT, 'src/layers.txt')
        self._temporary = None

    def has(self, path):
        return os.path.exists(os.path.join(self.root, path))

    def read(self, path):
        with open(os.path.join(self.root, path), encoding='utf-8') as file:
            return file.read()

    def files(self, *endings):
        found = []
        for folder, _, names in os.walk(os.path.join(self.root, 'src')):
            for name in names:
                if name.endswith(endings):
                    found.append(os.path.relpath(os.path.join(folder, name), self.root))
        return sorted(found)

    @staticmethod
    def module(path):
        """src/http/head.c → http; src/main.c → main."""
        parts = path.split('/')
        return parts[1] if len(parts) > 2 else 'main'

    def layers(self):
        """{module: level}, {pattern of a library's header: modules that own it}"""
        levels, owners = {}, {}
        with open(self.layers_path, encoding='utf-8') as file:
            for line in file:
                words = line.split('#')[0].split()
                if words:
                    levels[words[1]] = int(words[0])
                    for pattern in words[2:]:
                        owners.setdefault(pattern, []).append(words[1])
        levels['main'] = 99
        return levels, owners

    def include_flags(self):
        return ['-I' + os.path.join(self.root, 'src'), '-isystem', os.path.join(ROOT, 'deps/prefix/include')]

    # What was compiled: the ordinary build of this repository; a fixture is compiled here, with the flags
    # that its file `flags` names.

    def objects(self):
        """(module, path of the object)"""
        found = []
        for folder in self._object_folders():
            for name in sorted(os.listdir(folder)):
                match = re.fullmatch(r'src_(?:([a-z0-9]+)_)?.*\.c\.o', name)
                if match:
                    found.append((match[1] or 'main', os.path.join(folder, name)))
        return found

    def program(self):
        """The path of the program, or None where there is none yet."""
        path = os.path.join(self.root, 'build/portcullis')
        if self.is_fixture:
            path = os.path.join(self._compiled(), 'portcullis')
        return path if os.path.exists(path) else None

    def _object_folders(self):
        if self.is_fixture:
            return [self._compiled()]
        folders = [os.path.join(self.root, 'build', name) for name in ('libportcullis.a.p', 'portcullis.p')]
        return [folder for folder in folders if os.path.isdir(folder)]

    def _compiled(self):
        if self._temporary:
            return self._temporary.name
        self._temporary = tempfile.TemporaryDirectory(prefix='portcullis-house-')
        into, objects = self._temporary.name, []
        flags = self.read('flags').split() if self.has('flags') else ['-O2']
        for path in self.files('.c'):
            objects.append(os.path.join(into, path.replace('/', '_') + '.o'))
            run(['gcc', *flags, *self.include_flags(), '-c', os.path.join(self.root, path), '-o', objects[-1]])
        if self.has('src/main.c'):
            run(['gcc', *flags, *objects, '-o', os.path.join(into, 'portcullis')])
        return into


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, errors='replace', check=False)
    if done.returncode:
        raise RuntimeError(' '.join(command) + '\n' + done.stderr)
    return done.stdout
