#!/usr/bin/env python3
"""Real tools under `run`: tests/clients/tools/check.py PATH-TO-BINARY NODE-DIRECTORY [--aider]

NODE-DIRECTORY has npm's `openai` among its `node_modules`. The emulator's variables are in the environment. Every tool is told of
a forward proxy that nobody listens at: whoever does not reach `run` directly reaches nothing. Installs the tools, at the versions
pinned beside this file, each into a virtual environment of its own (they do not agree on a version of `openai`). `--aider` adds
aider, whose installation takes minutes.
"""
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv

HERE = pathlib.Path(__file__).resolve().parent
BINARY, NODE = sys.argv[1:3]
NOBODY = "http://127.0.0.1:9"
MODEL = "gpt-4o-mini"
PASSED = 0


def passed(name):
    global PASSED
    PASSED += 1
    print(f"ok run: {name}", flush=True)


def environment(home, **more):
    return {**os.environ, "HOME": home, "HTTPS_PROXY": NOBODY, "HTTP_PROXY": NOBODY, "TERM": "dumb", **more}


def install(home, requirements):
    directory = pathlib.Path(home, requirements)
    venv.create(directory, with_pip=True)
    pip = [directory / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", HERE / f"{requirements}.txt"], check=True)
    return directory / "bin"


def tool(name, home, *command, **more):
    """Runs to the end, and must have said back what it was told."""
    result = subprocess.run(
        [BINARY, "run", "--", *command], env=environment(home, **more), cwd=home, timeout=300, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    assert result.returncode == 0 and "You said: what the sea is like" in result.stdout, (result.returncode, result.stdout)
    passed(name)


NODE_SCRIPT = f"""
import OpenAI, {{ AzureOpenAI }} from "openai";
const messages = [{{ role: "user", content: "what the sea is like" }}];
const azure = new AzureOpenAI({{ baseURL: null, apiVersion: "2024-10-21" }});
for (const client of [new OpenAI(), azure]) {{
  console.log((await client.chat.completions.create({{ model: "{MODEL}", messages }})).choices[0].message.content);
}}
"""

AIDER = ["--no-git", "--yes-always", "--no-check-update", "--analytics-disable", "--no-show-model-warnings", "--edit-format", "ask"]


def tools(home):
    said = "what the sea is like"
    openai = install(home, "openai-cli")
    tool("openai", home, openai / "openai", "api", "chat.completions.create", "-m", MODEL, "-g", "user", said)
    python = (
        "import openai; print(openai.AzureOpenAI(api_version='2024-10-21').chat.completions.create("
        f"model='{MODEL}', messages=[dict(role='user', content='{said}')]).choices[0].message.content)"
    )
    tool("AzureOpenAI of Python", home, openai / "python", "-c", python)
    tool("llm", home, install(home, "llm") / "llm", "-m", MODEL, said)
    script = pathlib.Path(NODE, "run.mjs")
    script.write_text(NODE_SCRIPT)
    tool("a script in Node", home, "node", script)
    if "--aider" in sys.argv:
        aider = install(home, "aider") / "aider"
        for model in f"openai/{MODEL}", f"azure/{MODEL}":
            tool(f"aider with {model}", home, aider, *AIDER, "--model", model, "--message", said, LITELLM_LOCAL_MODEL_COST_MAP="True")


class Terminal:
    """A program at a terminal, typed to and read from."""

    def __init__(self, *command, **variables):
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            # What a script starts in the background ignores some; a person's shell does not.
            for usual in signal.SIGHUP, signal.SIGINT, signal.SIGQUIT:
                signal.signal(usual, signal.SIG_DFL)
            os.execvpe(command[0], command, variables)
        self.seen = ""

    def interrupt(self, prompt):
        """Ctrl-C until the prompt is there: a shell's loop goes on if what it waits for has just ended by itself."""
        for attempt in range(12):
            self.type(CTRL_C)
            try:
                return self.until(prompt, patience=5)
            except AssertionError:
                if attempt == 11:
                    raise

    def until(self, pattern, patience=60):
        """Reads up to the first match, and forgets what was before."""
        deadline = time.monotonic() + patience
        while not (match := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.file], [], [], left)[0], f"no {pattern!r} in {self.seen!r}"
            try:
                read = os.read(self.file, 4096)
            except OSError:
                read = b""
            assert read, f"it ended without {pattern!r}: {self.seen!r}"
            self.seen += read.decode(errors="replace")
        self.seen = self.seen[match.end():]
        return match

    def type(self, text):
        os.write(self.file, text.encode())

    def end(self):
        try:
            while os.read(self.file, 4096):
                pass
        except OSError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


# Markers are written so that what is typed, which the terminal shows too, does not look like them.
SHELL = ["bash", "--norc", "--noprofile", "-i"]
CTRL_C, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x1a", "\x1c"

# Waits for signals and handles none: what arrives just before a handler's program reads would be heard of when it has read.
COUNTING = """
import os, signal, sys, threading
count = 0
def say(text): os.write(1, text.encode())
def read():
    for line in sys.stdin: say(f"in-all-{count}.")
heard = {signal.SIGINT, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, heard)
threading.Thread(target=read, daemon=True).start()
say(f"counting-for-{os.getppid()}.")
while True:
    if signal.sigwait(heard) == signal.SIGINT:
        count += 1
        say(f"interrupted-{count}.")
    else:
        say(f"up-to-now-{count}.")
"""


def shell_inside(home):
    """An interactive shell as the command: it has the terminal, and its own jobs on it."""
    inside = Terminal(BINARY, "run", "--", *SHELL, **environment(home, PS1="in\\$ "))
    inside.until(r"in[$#] ")
    inside.type("echo base=$OPENAI_BASE_URL; tty -s && echo at-a-\"terminal\"\n")
    url = inside.until(r"base=(http://127\.0\.0\.1:\d+/v1)\r").group(1)
    inside.until("at-a-terminal")
    inside.type("echo named=$(curl -s -H \"api-key: $OPENAI_API_KEY\" $OPENAI_BASE_URL/models | grep -c gpt-4o-mini)\n")
    inside.until(r"named=1\r")
    passed("a shell that calls with curl")

    # In the foreground once it speaks.
    inside.type("sh -c 'echo at-wo\"\"rk; exec sleep 1000'\n")
    inside.until("at-work")
    inside.type(CTRL_C)
    inside.type("echo status=$?\n")
    inside.until(r"status=130\r")
    passed("Ctrl-C in a shell is its job's")

    inside.type("(trap 'echo contin\"\"ued' CONT; echo rea\"\"dy; while :; do sleep 0.1; done)\n")
    inside.until("ready")
    inside.type(CTRL_Z)
    inside.until("Stopped")
    inside.type("fg\n")
    inside.until("continued")
    inside.interrupt(r"in[$#] ")
    passed("Ctrl-Z and fg in a shell")

    inside.type("exit 3\n")
    assert inside.end() == 3
    try:
        urllib.request.urlopen(f"{url}/models", timeout=60)
        raise AssertionError("somebody listens still")
    except urllib.error.URLError as error:
        assert isinstance(error.reason, ConnectionRefusedError), error
    passed("exit 3 in a shell")


def shell_outside(home):
    """A command that was started by a shell, as people do it: `run` and the command are one job."""
    outside = Terminal(*SHELL, **environment(home, PS1="out\\$ ", BIN=BINARY, COUNTING=COUNTING, PYTHON=sys.executable))
    prompt = r"out[$#] "
    outside.until(prompt)
    outside.type("$BIN run -- $PYTHON -c \"$COUNTING\"\n")
    run = int(outside.until(r"counting-for-(\d+)\.").group(1))
    outside.type(CTRL_C)
    outside.until(r"interrupted-1\.")
    # Whatever is passed on, is so before this.
    os.kill(run, signal.SIGUSR1)
    outside.until(r"up-to-now-1\.")
    passed("Ctrl-C reaches the command once")

    outside.type(CTRL_Z)
    outside.until("Stopped")
    outside.until(prompt)
    outside.type("fg\n\n")
    outside.until(r"in-all-1\.")
    passed("Ctrl-Z and fg of the command")

    outside.type(CTRL_BACKSLASH)
    outside.until(prompt)
    outside.type("echo status=$?\n")
    outside.until(r"status=131\r")
    passed("Ctrl-\\ ends it")

    # A program that stops by itself, as editors do that read Ctrl-Z as a key: the shell must hear of it.
    outside.type("$BIN run -- sh -c 'kill -STOP $$; echo went-o\"\"n; exit 5'\n")
    outside.until("Stopped")
    outside.until(prompt)
    outside.type("fg\n")
    outside.until("went-on")
    outside.until(prompt)
    outside.type("echo status=$?\n")
    outside.until(r"status=5\r")
    passed("a command that stops by itself")

    outside.type("$BIN run -- bash --norc --noprofile -i\n")
    outside.until(prompt)
    outside.type("suspend\n")
    outside.until("Stopped")
    outside.until(prompt)
    outside.type("fg\n")
    outside.until(prompt)
    outside.type("echo level=$SHLVL; exit 6\n")
    outside.until(r"level=2\r")
    outside.until(prompt)
    outside.type("echo status=$?\n")
    outside.until(r"status=6\r")
    passed("suspend in a shell")
    outside.type("exit\n")
    outside.end()


def closing(home):
    """A terminal of its own that is closed, as by `ssh -t` or a window: nobody but the first process hears of it."""
    closed = Terminal(BINARY, "run", "--", "sh", "-c", "echo star\"\"ted; exec sleep 1000", **environment(home))
    closed.until("started")
    os.close(closed.file)
    status = os.waitstatus_to_exitcode(os.waitpid(closed.pid, 0)[1])
    assert status == 128 + signal.SIGHUP, status
    passed("a terminal that is closed")


def waiting(home):
    """While there is no token, a person is told what is waited for, and can leave."""
    control = os.environ["AOAI_EMULATOR_CONTROL"]
    fault = b'{"route": "imds", "action": {"kind": "status", "status": 503}}'
    request = urllib.request.Request(f"{control}/faults", fault, {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=60)
    waits = Terminal(BINARY, "run", "--", "true", **environment(home))
    waits.until("still no token: managed-identity: .* answered 503.*Ctrl-C ends it")
    waits.type(CTRL_C)
    assert waits.end() == -signal.SIGINT
    opener.open(urllib.request.Request(f"{control}/faults", method="DELETE"), timeout=60)
    passed("a person is told what is waited for")


with tempfile.TemporaryDirectory() as home:
    tools(home)
    shell_inside(home)
    shell_outside(home)
    closing(home)
    waiting(home)
