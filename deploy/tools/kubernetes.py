"""Whether the Kubernetes overlays build, hold against the API's schemas, and fit together."""
import json
import pathlib
import shutil
import subprocess
import tempfile

import kubernetes_validate
import yaml

VERSION = "1.37"
# Made by hand, not by kustomize.
SECRETS = {"aoai-auth-proxy-keys"}


def builder():
    """The command that builds an overlay, if there is one."""
    return next(([tool, verb] for tool, verb in (("kustomize", "build"), ("kubectl", "kustomize")) if shutil.which(tool)), None)


def check(overlay, program, modules, complain):
    """Builds an overlay and complains of what is wrong in it."""
    built = subprocess.run([*builder(), overlay], capture_output=True, text=True)
    if built.returncode != 0:
        return complain(overlay, built.stderr.strip())
    documents = [document for document in yaml.safe_load_all(built.stdout) if document]
    for document in documents:
        name = f"{document['kind']}/{document['metadata']['name']}"
        say = lambda words, name=name: complain(overlay, f"{name}: {words}")  # noqa: E731
        if document["kind"] == "PodMonitor":
            pod_monitor(document, modules, say)
        else:
            schema(document, say)
    fit(documents, lambda words: complain(overlay, words))
    for pod in pods(documents):
        settings(pod, documents, program, lambda words: complain(overlay, words), overlay)


def schema(document, say):
    try:
        kubernetes_validate.validate(document, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        say(error.message)
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.VersionNotSupportedError) as error:
        say(f"nothing to hold it against: {error}")


def pod_monitor(document, modules, say):
    """TypeScript finds names that there are not, the validator values that cannot be."""
    source = f"""
import {{ PodMonitor, type IPodMonitor }} from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
const document: IPodMonitor = {json.dumps(document)};
new PodMonitor(document).validate();
"""
    with tempfile.TemporaryDirectory(dir=modules) as directory:
        place = pathlib.Path(directory) / "monitor.ts"
        place.write_text(source)
        options = ["--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext"]
        for command in (["node_modules/.bin/tsc", *options, place], ["node", place.with_suffix(".js")]):
            done = subprocess.run(command, cwd=modules, capture_output=True, text=True)
            if done.returncode != 0:
                return say((done.stdout + done.stderr).strip()[:600])


def pods(documents):
    return [document["spec"]["template"] for document in documents if document["kind"] in ("Deployment", "Job")]


def containers(pod):
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def fit(documents, say):
    """What one document says of another."""
    there = {(document["kind"], document["metadata"]["name"]) for document in documents} | {("Secret", name) for name in SECRETS}
    templates = pods(documents)

    def expect(kind, name, who):
        if (kind, name) not in there:
            say(f"{who} names {kind}/{name}, which is not there")

    for pod in templates:
        expect("ServiceAccount", pod["spec"]["serviceAccountName"], "a pod")
        for source in (source for container in containers(pod) for source in container.get("envFrom", [])):
            expect("ConfigMap", source["configMapRef"]["name"], "a container")
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume:
                expect("ConfigMap", volume["configMap"]["name"], "a volume")
            if "secret" in volume:
                expect("Secret", volume["secret"]["secretName"], "a volume")
    for document in documents:
        kind, spec = document["kind"], document.get("spec", {})
        if kind == "HorizontalPodAutoscaler":
            expect(spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"], kind)
        selector = {
            "Service": lambda: spec["selector"],
            "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
            "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
            "PodMonitor": lambda: spec["selector"]["matchLabels"],
        }.get(kind)
        if not selector:
            continue
        chosen = [pod for pod in templates if selector().items() <= pod["metadata"]["labels"].items()]
        if not chosen:
            say(f"{kind} selects no pod: {selector()}")
        ports = {value for pod in chosen for container in containers(pod) for port in container.get("ports", []) for value in port.values()}
        wanted = [port["targetPort"] for port in spec.get("ports", [])] if kind == "Service" else []
        wanted += [endpoint["port"] for endpoint in spec.get("podMetricsEndpoints", [])]
        wanted += [port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]] if kind == "NetworkPolicy" else []
        for port in set(wanted) - ports:
            say(f"{kind} names the port {port}, which no container of its pods has")


def settings(pod, documents, program, say, overlay):
    """What the proxy's container is told, and whether its probes and its end fit that."""
    for container in (container for container in containers(pod) if container["name"] == "aoai-auth-proxy"):
        maps = {document["metadata"]["name"]: document["data"] for document in documents if document["kind"] == "ConfigMap"}
        environment = {variable["name"]: variable["value"] for variable in container.get("env", [])}
        for source in container.get("envFrom", []):
            environment.update(maps.get(source["configMapRef"]["name"], {}))
        volumes = [volume["configMap"]["name"] for volume in pod["spec"].get("volumes", []) if "configMap" in volume]
        file = next((maps[name]["config.toml"] for name in volumes if "config.toml" in maps.get(name, {})), None)
        config = program.effective(overlay, lambda _, words: say(words), environment, container.get("args", []), file)
        if config is None:
            continue
        named = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        probed = {named.get(probe["httpGet"]["port"], probe["httpGet"]["port"]) for key, probe in container.items() if key.endswith("Probe")}
        admin = environment.get("AOAI_PROXY__ADMIN__ADDRESS") or admin_of(file or "")
        if probed != {int(admin.rpartition(":")[2])}:
            say(f"probes ask {probed}, and admin.address is {admin}")
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needed = sleep + seconds(config["limits"]["shutdown_grace"]) + 10
        if pod["spec"]["terminationGracePeriodSeconds"] < needed:
            say(f"terminationGracePeriodSeconds is less than the {needed} s that the proxy may take")


def admin_of(text):
    return next((line.split('"')[1] for line in text.partition("[admin]")[2].splitlines() if line.startswith("address")), ":0")


def seconds(duration):
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]
