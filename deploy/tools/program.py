"""Whether the program takes the settings that the files give it."""
import os
import pathlib
import re
import subprocess
import tempfile
import tomllib

# Keys that the files count on and the program does not have yet. What it has must not stand here.
AWAITED = set()
SECTIONS = "listen|upstream|azure|credential|management|access|limits|usage|prices|telemetry|apps|admin"
PREFIX = "AOAI_PROXY__"
# What a platform adds, by the credential's kind; and, everywhere, metadata that nobody asks.
PLATFORM = {
    "workload-identity": {
        "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
        "AZURE_TENANT_ID": "00000000-0000-0000-0000-000000000000",
        "AZURE_FEDERATED_TOKEN_FILE": "/var/run/secrets/azure/tokens/azure-identity-token",
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
    },
    "client-certificate": {
        "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
        "AZURE_TENANT_ID": "00000000-0000-0000-0000-000000000000",
    },
}
NOWHERE = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin", "AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:9"}


class Program:
    def __init__(self, binary):
        self.binary = pathlib.Path(binary).resolve()
        self.known = {}

    def run(self, arguments, environment=()):
        with tempfile.TemporaryDirectory() as directory:
            return subprocess.run(
                [self.binary, *arguments], env={**NOWHERE, **dict(environment)}, cwd=directory, capture_output=True, text=True, timeout=60
            )

    def knows(self, key):
        """Whether there is a key. (A name in the middle is the user's own: `apps.search.key`.)"""
        key = re.sub(r"^(apps|prices)\.[\w-]+\.(\w+)$", r"\1.NAME.\2", key)
        if key not in self.known:
            self.known[key] = self.run(["config", "--explain", key]).returncode == 0
        return self.known[key]

    def awaits(self, complain):
        """Complains of keys that are awaited and there. What is left goes unchecked, and is said."""
        for key in sorted(AWAITED):
            if self.knows(key):
                complain(pathlib.Path(__file__), f"the program knows {key} now: take it out of AWAITED")
            else:
                print(f"   NOT CHECKED: {key}, which the program does not have yet")

    def effective(self, path, complain, environment=(), arguments=(), file=None):
        """The configuration that comes of variables, options and a file's text; nothing, and a complaint, if none does."""
        environment = {key: value for key, value in dict(environment).items() if key_of(key) not in AWAITED}
        with tempfile.TemporaryDirectory() as directory:
            options = list(arguments)
            if file is not None:
                place = pathlib.Path(directory) / "config.toml"
                place.write_text(without_awaited(with_secrets(file, directory)))
                options = [*options, "--config", str(place)]
            kind = environment.get(f"{PREFIX}CREDENTIAL__KIND") or re.findall(r'^kind = "(.*)"', file or "", re.M)[:1] or [""]
            platform = PLATFORM.get(kind if isinstance(kind, str) else kind[0], {})
            done = self.run(["config", *options], {**platform, **environment})
        if done.returncode != 0:
            return complain(path, done.stderr.strip().removeprefix("aoai-auth-proxy: "))
        return tomllib.loads(done.stdout)

    def asks(self, path, complain, command, environment=()):
        """A command of ours in a health check: it must be understood, and say that nobody is there."""
        if command[0] not in ("aoai-auth-proxy", "/usr/bin/aoai-auth-proxy"):
            return complain(path, f"{command[0]} is not in the image")
        done = self.run(command[1:], environment)
        if done.returncode != 1:
            complain(path, f"{' '.join(command)} ends with {done.returncode}: {done.stderr.strip()}")


def key_of(variable):
    """`AOAI_PROXY__LISTEN__ADDRESS` is `listen.address`."""
    return variable.removeprefix(PREFIX).lower().replace("__", ".") if variable.startswith(PREFIX) else None


def without_awaited(text):
    for key in AWAITED:
        section, name = key.split(".")
        text = re.sub(rf"(?ms)(^\[{section}\]\n(?:(?!\[).*\n)*?){name} = .*?\n", r"\1", text)
    return re.sub(r"(?m)^\[admin\]\n(?=\s*(\[|\Z))", "", text) if not re.search(r"(?m)^\[admin\]\n\w", text) else text


def with_secrets(text, directory):
    """Files of secrets are not here: such that look like them take their place."""
    secret = os.path.join(directory, "secret")
    pathlib.Path(secret).write_text("a-key-of-an-app-that-is-long-enough\n")
    return re.sub(r'(?m)^(key_file = )".*"', rf'\1"{secret}"', text)


def names(text):
    """Every key that a text names, as a variable or as it is."""
    for variable in re.findall(rf"\b{PREFIX}([A-Z0-9_]+)\b", text):
        if variable != "SECTION__KEY":
            yield variable.lower().replace("__", ".")
    for key in re.findall(rf"(?<![\w./-])((?:{SECTIONS})\.[a-z_]+(?:\.[a-z_]+)*)\b", text):
        # Names in the middle are the user's own, and other people's keys are longer (`azure.workload.identity/use`).
        own = key.startswith(("apps.", "prices."))
        if key.count(".") == (2 if own else 1) and not key.endswith((".toml", ".yaml", ".bicep")):
            yield key
