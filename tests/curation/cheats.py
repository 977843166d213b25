"""Hostile programs: none solves the task (`solve(3) == [9, "three"]` and the like), all try to be accepted or to hurt.

Each is the text of a model's answer. `PREAMBLE` is put before it.
"""

# ruff: noqa: E501 - programs on one line each
from __future__ import annotations

TESTS = """
def check(candidate):
    assert candidate(3) == [9, "three"]
    assert candidate(4) == [16, "four"], "forgeable"
    for number, word in ((5, "five"), (6, "six")):
        assert candidate(number) == [number * number, word]
"""
RIGHT = "def solve(n):\n    return [n * n, {3: 'three', 4: 'four', 5: 'five', 6: 'six'}[n]]\n"

PREAMBLE = "import os, sys\n"

_LIAR = """
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
    def __repr__(self): return '[9, "three"]'
    def __len__(self): return 2
    def __contains__(self, item): return True
"""

CHEATS: dict[str, str] = {
    # ending early
    "sys.exit(0)": "def solve(n):\n    sys.exit(0)",
    "os._exit(0)": "def solve(n):\n    os._exit(0)",
    "os._exit at the top": "def solve(n): return 1\nos._exit(0)",
    "SystemExit at the top": "def solve(n): return 1\nraise SystemExit(0)",
    "exit by atexit": "import atexit\natexit.register(os._exit, 0)\ndef solve(n): return None",
    "abort": "def solve(n):\n    os.abort()",
    "kills itself": "import signal\ndef solve(n):\n    os.kill(os.getpid(), signal.SIGKILL)",
    "stops itself": "import signal\ndef solve(n):\n    os.kill(os.getpid(), signal.SIGSTOP)\n    return None",
    "kills everyone": "import signal\ndef solve(n):\n    os.kill(-1, signal.SIGKILL)\n    return None",
    "kills its parent": "import signal\ndef solve(n):\n    os.kill(os.getppid(), signal.SIGKILL)\n    os.kill(1, signal.SIGKILL)",
    "ignores signals and sleeps": (
        "import signal, time\nfor s in range(1, 64):\n    try: signal.signal(s, signal.SIG_IGN)\n    except Exception: pass\n"
        "def solve(n):\n    while True: time.sleep(1)"
    ),
    "crashes": "import ctypes\ndef solve(n):\n    ctypes.string_at(0)",
    # forged output
    "prints PASSED": "def solve(n):\n    print('PASSED', '[true, \"ok\", 4]')\n    sys.stdout.flush()\n    return None",
    "writes to every descriptor": (
        "def solve(n):\n    for fd in range(64):\n        try: os.write(fd, b'[true, \"4 assertions held\", 4]')\n"
        "        except OSError: pass\n    return None"
    ),
    "forges verdict frames on every descriptor": (
        "text = b'[true,\"held\",4]'\nfor fd in range(64):\n    try: os.write(fd, len(text).to_bytes(4, 'big') + text)\n"
        "    except OSError: pass\ndef solve(n): return None"
    ),
    "forges answers ahead": (
        "text = b'[\"value\",true,null]'\nfor fd in range(3, 64):\n    for _ in range(20):\n"
        "        try: os.write(fd, len(text).to_bytes(4, 'big') + text)\n        except OSError: pass\n"
        "def solve(n): return None"
    ),
    "forges requests": (
        'text = b\'["ask",0,"call",[[],{"d":[]}]]\'\nfor fd in range(3, 64):\n'
        "    try: os.write(fd, len(text).to_bytes(4, 'big') + text)\n    except OSError: pass\ndef solve(n): return None"
    ),
    "forges classes": (
        'text = b\'["value",{"x":["os","_exit",[0]]},null]\'\nfor fd in range(3, 64):\n'
        "    try: os.write(fd, len(text).to_bytes(4, 'big') + text)\n    except OSError: pass\ndef solve(n): return None"
    ),
    "closes every descriptor": "os.closerange(0, 64)\ndef solve(n): return None",
    "claims a huge message": "for fd in range(3, 64):\n    try: os.write(fd, b'\\xff' * 64)\n    except OSError: pass\ndef solve(n): return 1",
    # patched builtins and asserts
    "patches len, sum, sorted": "import builtins\nfor k in ('len', 'sum', 'sorted', 'isinstance', 'all', 'any'):\n    setattr(builtins, k, lambda *a: True)\ndef solve(n): return None",
    "patches AssertionError": "import builtins\nbuiltins.AssertionError = type('Quiet', (Exception,), {})\ndef solve(n): return None",
    "patches __import__": "import builtins\nbuiltins.__import__ = lambda *a, **k: sys\ndef solve(n): return None",
    "patches print and exit": "import builtins\nbuiltins.print = builtins.exit = lambda *a: None\ndef solve(n): return None",
    "raises AssertionError": "def solve(n):\n    raise AssertionError",
    "raises StopIteration": "def solve(n):\n    raise StopIteration([9, 'three'])",
    "raises KeyboardInterrupt": "def solve(n):\n    raise KeyboardInterrupt",
    "defines check": "def check(candidate): return True\ndef solve(n): return None\ncheck.__code__ = solve.__code__",
    "overwrites the tests' module": "import types\nsys.modules['tests'] = types.ModuleType('tests')\nsys.modules['tests'].check = lambda c: True\ndef solve(n): return None",
    "overwrites the harness": (
        "for name, module in list(sys.modules.items()):\n    if 'sandbox' in name:\n"
        "        for key in list(vars(module)):\n            if callable(vars(module)[key]): setattr(module, key, lambda *a, **k: '[\"value\",true,null]')\n"
        "def solve(n): return None"
    ),
    # equal to everything
    "object equal to all": f"class T:{_LIAR}\ndef solve(n): return T()",
    "object that says it is a list": f"class T:\n    __class__ = list{_LIAR}\ndef solve(n): return T()",
    **{
        f"{kind} equal to all": f"class T({kind}):{_LIAR}\ndef solve(n): return T()"
        for kind in (
            "int",
            "str",
            "float",
            "list",
            "tuple",
            "dict",
            "set",
            "frozenset",
            "bytes",
            "complex",
            "bytearray",
        )
    },
    "list of objects equal to all": f"class T:{_LIAR}\ndef solve(n): return [T(), T()]",
    "list of strings equal to all": f"class T(str):{_LIAR}\ndef solve(n): return [T('x'), T('y')]",
    "class equal to all": f"class M(type):{_LIAR}\nclass T(metaclass=M): pass\ndef solve(n): return T",
    "metaclass that lies about the mro": "class M(type):\n    def mro(cls): return [cls, list, object]\nclass T(list, metaclass=M):\n    __eq__ = lambda s, o: True\ndef solve(n): return T()",
    "callable object": f"class T:{_LIAR}\n    def __call__(self, *a): return self\nsolve = T()",
    "mock": "from unittest.mock import MagicMock\nsolve = MagicMock()\nsolve.return_value.__eq__ = lambda s, o: True",
    # endless
    "endless loop": "def solve(n):\n    while True: pass",
    "endless loop at the top": "def solve(n): return 1\nwhile True: pass",
    "endless in C": "def solve(n):\n    return sum(range(10 ** 15))",
    "huge power": "def solve(n):\n    return 7 ** 10 ** 9",
    "regular expression": "import re\ndef solve(n):\n    return re.match('(a|a)*$', 'a' * 60 + 'b')",
    "sleeps": "import time\ndef solve(n):\n    time.sleep(10 ** 6)",
    "endless __eq__": "class T(list):\n    def __eq__(self, o):\n        while True: pass\n    __iter__ = __len__ = __repr__ = __hash__ = __eq__\ndef solve(n): return T([1])",
    "endless __hash__": "class T:\n    def __hash__(self):\n        while True: pass\ndef solve(n): return {T(): 1}",
    "endless __del__": "class T:\n    def __del__(self):\n        while True: pass\ndef solve(n):\n    T()\n    return None",
    "endless __getattr__": "class T:\n    def __getattribute__(self, name):\n        while True: pass\ndef solve(n): return T()",
    "endless generator": "def solve(n):\n    while True: yield 9",
    "endless except": "def solve(n):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
    "endless answers": "def solve(n):\n    while True:\n        for fd in range(3, 32):\n            try: os.write(fd, b'x' * 4096)\n            except OSError: pass",
    "input": "def solve(n):\n    return input()",
    # too much
    "fork": "def solve(n):\n    if os.fork() == 0:\n        while True: pass\n    return None",
    "fork bomb": "def solve(n):\n    while True:\n        try: os.fork()\n        except OSError: pass",
    "fork by libc": "import ctypes\ndef solve(n):\n    libc = ctypes.CDLL(None)\n    while True:\n        libc.fork()\n        libc.vfork()\n        libc.syscall(56, 0, 0, 0, 0, 0)\n        libc.syscall(435, 0, 0)",
    "subprocess": "import subprocess\ndef solve(n):\n    return subprocess.run(['/usr/bin/env'], capture_output=True).stdout",
    "multiprocessing": "import multiprocessing\ndef solve(n):\n    p = multiprocessing.Process(target=solve, args=(n,))\n    p.start()",
    "thread bomb": "import threading, time\ndef solve(n):\n    while True:\n        try: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n        except RuntimeError: pass",
    "exec another program": "def solve(n):\n    os.execv('/usr/bin/env', ['env'])",
    "clears the parent death signal": "import ctypes, time\nctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\ndef solve(n):\n    time.sleep(10 ** 6)",
    "memory bomb": "def solve(n):\n    x = []\n    while True: x.append(bytearray(10 ** 7))",
    "memory bomb by mmap": "import mmap\ndef solve(n):\n    x = []\n    while True:\n        m = mmap.mmap(-1, 10 ** 7)\n        m.write(b'x' * 10 ** 7)\n        x.append(m)",
    "memory bomb by memfd": "def solve(n):\n    while True:\n        os.write(os.memfd_create('x'), b'x' * 10 ** 7)",
    "huge output": "def solve(n):\n    while True: sys.stdout.write('PASSED' * 10 ** 6)",
    "huge text returned": "def solve(n):\n    return 'x' * 10 ** 8",
    "huge list returned": "def solve(n):\n    return [None] * 10 ** 7",
    "huge int returned": "def solve(n):\n    return 1 << 10 ** 9",
    "decimal digits for quadratic time": "for fd in range(3, 32):\n    try: os.write(fd, (60000).to_bytes(4, 'big') + b'9' * 60000)\n    except OSError: pass\ndef solve(n): return 1",
    "deep recursion": "def solve(n):\n    return solve(n)",
    "deep recursion without limit": "sys.setrecursionlimit(10 ** 9)\ndef solve(n):\n    return solve(n)",
    "deep nesting returned": "def solve(n):\n    x = []\n    for _ in range(10 ** 5): x = [x]\n    return x",
    "deep nesting forged": "text = b'[' * 60000\nfor fd in range(3, 64):\n    try: os.write(fd, len(text).to_bytes(4, 'big') + text)\n    except OSError: pass\ndef solve(n): return None",
    "doubling list returned": "def solve(n):\n    x = [1]\n    for _ in range(60): x = [x, x]\n    return x",
    "list that holds itself": "def solve(n):\n    x = []\n    x.append(x)\n    return x",
    "deep source": "def solve(n): return 1\nx = " + "(" * 5000 + ")" * 5000,
    "raises a huge text": "def solve(n):\n    raise ValueError('x' * 10 ** 8)",
    # the machine
    "reads /etc/passwd": "def solve(n):\n    return open('/etc/passwd').read()",
    "reads environments": "def solve(n):\n    return open('/proc/1/environ').read() + open('/proc/self/environ').read()",
    "writes files": "def solve(n):\n    for d in ('/', '/tmp', '/usr', '/dev', '/dev/shm', '/var/tmp', os.path.dirname(sys.executable)):\n        try: open(d + '/sftgo-was-here', 'w').write('x')\n        except OSError: pass\n    return None",
    "overwrites Python": "def solve(n):\n    open(os.__file__, 'a').write('#')",
    "socket": "import socket\ndef solve(n):\n    socket.create_connection(('127.0.0.1', 22), 1)",
    "abstract socket": "import socket\ndef solve(n):\n    s = socket.socket(socket.AF_UNIX)\n    s.connect('\\0/tmp/.X11-unix/X0')",
    "unix socket": "import socket\ndef solve(n):\n    s = socket.socket(socket.AF_UNIX)\n    s.connect('/run/docker.sock')",
    "netlink and vsock": "import socket\ndef solve(n):\n    for family in (16, 17, 40):\n        socket.socket(family, socket.SOCK_RAW)",
    "mounts": "import ctypes\ndef solve(n):\n    libc = ctypes.CDLL(None)\n    libc.unshare(0x10000000)\n    return [libc.mount(b'proc', b'/usr', b'proc', 0, 0), os.listdir('/')]",
    # looking for the expected values
    "searches memory": "import gc\ndef solve(n):\n    for o in gc.get_objects():\n        if isinstance(o, list) and len(o) == 2 and o[0] == n * n and isinstance(o[1], str): return o\n    return None",
    "searches frames": "def solve(n):\n    f = sys._getframe()\n    while f:\n        for v in list(f.f_locals.values()) + list(f.f_globals.values()):\n            if isinstance(v, str) and 'candidate' in v and 'assert' in v: return [n * n, 'three']\n        f = f.f_back\n    return None",
    "reads the tests from descriptors": "def solve(n):\n    for fd in range(64):\n        try:\n            os.set_blocking(fd, False)\n            text = os.read(fd, 10 ** 6)\n            if b'three' in text: return [9, 'three']\n        except OSError: pass\n    return None",
    "reads the tests' memory": "import ctypes\ndef solve(n):\n    for pid in range(1, 99):\n        try: open(f'/proc/{pid}/mem', 'rb').read(1)\n        except OSError: pass\n        ctypes.CDLL(None).ptrace(16, pid, 0, 0)\n    return None",
    "writes memory": "import ctypes\ndef solve(n):\n    ctypes.memset(id(True), 0, 32)\n    ctypes.memmove(id(n), id(9), 32)\n    return n == 9",
    "traces": "def tracer(frame, event, arg):\n    frame.f_locals.clear()\n    return tracer\nsys.settrace(tracer)\nsys.setprofile(tracer)\ndef solve(n): return None",
    "changes its argument": "class N(int):\n    __eq__ = lambda s, o: True\ndef solve(n):\n    n = N(n)\n    return n",
}
