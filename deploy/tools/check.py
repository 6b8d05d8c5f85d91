"""Whether the files in deploy/ and packaging/ hold. Called by deploy/check, which installs what this needs."""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

import bicep
import kubernetes
from program import AWAITED, Program, names

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY, PACKAGING = ROOT / "deploy", ROOT / "packaging"
# What `systemd-analyze security` may give the service at most: 1.3, of 10.
EXPOSURE = 13

problems = []


def complain(path, words):
    path = path if isinstance(path, pathlib.Path) else pathlib.Path(path)
    problems.append(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}: {words}")


def tool(path, *command, quiet=True, **options):
    """Runs a validator; what it says is a complaint if it fails (or, if it should be quiet, says anything)."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    said = (done.stdout + done.stderr).strip()
    if done.returncode != 0 or (quiet and said):
        complain(path, said or f"{command[0]} ends with {done.returncode}")


def container(_):
    tool(ROOT / "Dockerfile", "hadolint", ROOT / "Dockerfile")
    text = (ROOT / "Dockerfile").read_text()
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    if f"ARG VERSION={version}\n" not in text:
        complain(ROOT / "Dockerfile", f"VERSION is not {version}, as in Cargo.toml")
    for path in DEPLOY.rglob("*.yaml"):
        for tag in re.findall(r"aoai-auth-proxy:(\d\S*)|newName: registry.example/aoai-auth-proxy\n\s*newTag: (\S+)", path.read_text()):
            if version not in tag:
                complain(path, f"the image's tag is {''.join(tag)}, not {version}")


def texts(directory):
    """Its files, but for what only a compiler reads."""
    return [path for path in directory.rglob("*") if path.is_file() and not path.name.endswith(".profdata.gz")]


def scripts(_):
    first = {path: path.read_text().partition("\n")[0] for path in texts(PACKAGING)}
    shell = [path for path, line in first.items() if re.search(r"^#!.*sh$|shellcheck shell", line)] + [PACKAGING / "tools"]
    tool(PACKAGING, "shellcheck", *shell, DEPLOY / "check", cwd=ROOT)
    for path in [path for path, line in first.items() if line.endswith("python3")]:
        compile(path.read_text(), path, "exec")
    formula = PACKAGING / "homebrew.rb.in"
    tool(formula, "ruby", "-wc", quiet=False, stdin=formula.open())


def compose(program):
    for path in sorted((DEPLOY / "compose").glob("*.yaml")):
        tool(path, "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path, quiet=False)
        document = yaml.safe_load(path.read_text())
        service = document["services"]["aoai-auth-proxy"]
        environment = {name: re.sub(r"\$\{AZURE_OPENAI_ENDPOINT.*\}", "https://NAME.openai.azure.com", value) for name, value in service["environment"].items()}
        environment = {name: re.sub(r"\$\{\w+-(.*)\}", r"\1", value) for name, value in environment.items()}
        config = program.effective(path, complain, environment, service.get("command", []))
        program.asks(path, complain, service["healthcheck"]["test"][1:], environment)
        if config and kubernetes.seconds(service["stop_grace_period"]) < kubernetes.seconds(config["limits"]["shutdown_grace"]) + 10:
            complain(path, "stop_grace_period is less than the proxy may take")


def cluster(program, modules):
    if not kubernetes.builder():
        return print("   NOT CHECKED: Kubernetes (neither kustomize nor kubectl is here)")
    for overlay in sorted((DEPLOY / "kubernetes/overlays").iterdir()):
        kubernetes.check(overlay, program, modules, complain)


def azure(program, cloud_init):
    for path in sorted(DEPLOY.rglob("*.bicep")):
        bicep.check(path, complain)
    path = DEPLOY / "container-apps/main.bicep"
    text = path.read_text()
    own = text[text.index("name: 'aoai-auth-proxy'") :]
    pairs = dict(re.findall(r"name: '([A-Z_]+)'\n\s*value: (.*)", own))
    values = {name: value.strip("'").replace("${accountName}", "NAME") for name, value in pairs.items()}
    zero = "00000000-0000-0000-0000-000000000000"
    values.update({name: zero for name, value in pairs.items() if not value.startswith("'")})
    program.effective(path, complain, values)
    admin = values["AOAI_PROXY__ADMIN__ADDRESS"].rpartition(":")[2]
    if set(re.findall(r"port: (\d+)", own)) != {admin}:
        complain(path, f"not every probe asks port {admin}")

    path = DEPLOY / "vm/cloud-init.yaml"
    tool(path, "check-jsonschema", "--schemafile", cloud_init, path, quiet=False)
    # The schema lets pass what it does not know.
    known = {key for part in json.loads(pathlib.Path(cloud_init).read_text())["$defs"].values() for key in part.get("properties", {})}
    for key in set(yaml.safe_load(path.read_text())) - known:
        complain(path, f"cloud-config has no {key}")
    holes = set(re.findall(r"\{[A-Z][A-Z0-9_]+\}", path.read_text()))
    filled = set(re.findall(r"'(\{[A-Z0-9_]+\})'", (DEPLOY / "vm/main.bicep").read_text()))
    if holes != filled:
        complain(path, f"has {holes}, and main.bicep fills in {filled}")
    for file in yaml.safe_load(path.read_text())["write_files"]:
        if file["path"].endswith(".toml"):
            program.effective(path, complain, file=file["content"].replace("{ENDPOINT}", "https://NAME.openai.azure.com").replace("{SUBSCRIPTION}", zero))


def units(program):
    directory = DEPLOY / "systemd"
    with tempfile.TemporaryDirectory() as temporary:
        for scope in ("--system", "--user"):
            folder = directory if scope == "--system" else directory / "user"
            there = pathlib.Path(temporary) / scope.strip("-")
            there.mkdir()
            for unit in [*folder.glob("*.service"), *folder.glob("*.socket")]:
                (there / unit.name).write_text(unit.read_text().replace("/usr/bin/aoai-auth-proxy", str(program.binary)))
            if scope == "--system":
                drop_in = there / "aoai-auth-proxy.service.d"
                drop_in.mkdir()
                (drop_in / "credentials.conf").write_text((directory / "credentials.conf").read_text())
            tool(folder, "systemd-analyze", scope, "verify", "--man=no", *there.glob("*.so*"), *there.glob("*.service"), env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": temporary})
        unit = pathlib.Path(temporary) / "system/aoai-auth-proxy.service"
        tool(directory / unit.name, "systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", unit, quiet=False)
    path = directory / "credentials.conf"
    example = "\n".join(re.findall(r"^#   ?(.*)", path.read_text(), re.M)) + "\n"
    program.effective(path, complain, {"AZURE_OPENAI_ENDPOINT": "https://NAME.openai.azure.com"}, file=example)
    for name in re.findall(r"^LoadCredential=(.*?):", path.read_text(), re.M):
        if f'"/run/credentials/aoai-auth-proxy.service/{name}"' not in example:
            complain(path, f"nothing uses {name}")
    sysusers = PACKAGING / "sysusers/aoai-auth-proxy.conf"
    tool(sysusers, "systemd-sysusers", "--dry-run", sysusers, quiet=False)


def examples(program):
    """The example configuration, with all that is commented out."""
    path = PACKAGING / "config.toml"
    program.effective(path, complain, file=re.sub(r"(?m)^#(?=[\w\[])", "", path.read_text()))
    if any(not line.startswith("#") for line in path.read_text().splitlines() if line):
        complain(path, "a package configures nothing by itself")


def words(program):
    """Every key that is named anywhere."""
    for path in [ROOT / "Dockerfile", *texts(DEPLOY), *texts(PACKAGING)]:
        if "tools" in path.parts or "node_modules" in path.parts or path.suffix == ".py":
            continue
        for key in sorted(set(names(path.read_text()))):
            if key not in AWAITED and not program.knows(key):
                complain(path, f"there is no key {key}")
        for block in re.findall(r"(?ms)^```toml\n(.*?)^```", path.read_text()):
            if "[upstream]" in block:
                program.effective(path, complain, file=block)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("binary")
    arguments.add_argument("--only", default="", help="the step whose name begins so")
    arguments.add_argument("--modules", required=True, help="directory with node_modules")
    arguments.add_argument("--cloud-init", required=True, help="the JSON schema of cloud-config")
    options = arguments.parse_args()
    program = Program(options.binary)
    program.awaits(complain)
    for name, step in {
        "Dockerfile: hadolint": container,
        "scripts: shellcheck, ruby": scripts,
        "compose: the specification's schema": compose,
        "kubernetes: kustomize, the API's schemas": lambda program: cluster(program, options.modules),
        "bicep, cloud-init: parser, Microsoft's types, schema": lambda program: azure(program, options.cloud_init),
        "systemd: verify, security": units,
        "packages: the example configuration": examples,
        "keys, wherever they are named": words,
    }.items():
        if not name.startswith(options.only):
            continue
        before = len(problems)
        step(program)
        print(f"   {'ok' if len(problems) == before else 'FAILED'}  {name}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
