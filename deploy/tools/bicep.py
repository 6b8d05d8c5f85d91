"""Whether Bicep files hold, without Bicep's compiler, which no package registry that is used here ships.

They are parsed; what stands in a resource is held against the types of Microsoft's own libraries for Python, by name, kind and
choice; modules are there and get the parameters that they have.
"""
import enum
import importlib
import re
import typing

import pycep
from typing_extensions import is_typeddict

# Where the libraries keep what a resource is.
TYPES = {
    "Microsoft.App/containerApps": "azure.mgmt.appcontainers.types:ContainerApp",
    "Microsoft.App/managedEnvironments": "azure.mgmt.appcontainers.types:ManagedEnvironment",
    "Microsoft.Authorization/roleAssignments": "azure.mgmt.authorization.v2022_04_01.models:RoleAssignmentCreateParameters",
    "Microsoft.CognitiveServices/accounts": "azure.mgmt.cognitiveservices.models:Account",
    "Microsoft.CognitiveServices/accounts/deployments": "azure.mgmt.cognitiveservices.models:Deployment",
    "Microsoft.Compute/virtualMachines": "azure.mgmt.compute.types:VirtualMachine",
    "Microsoft.Network/networkInterfaces": "azure.mgmt.network.types:NetworkInterface",
}
# Resources of which nothing is said but their name and place.
BARE = {"Microsoft.ManagedIdentity/userAssignedIdentities", "Microsoft.ContainerRegistry/registries"}
# What Bicep itself understands in every resource.
BICEP = {"name", "location", "tags", "scope", "parent", "dependsOn"}


def check(path, complain):
    """Complains of what is wrong in a file."""
    try:
        parsed = pycep.BicepParser().parse(text=path.read_text())
    except Exception as error:  # whatever the parser's library raises
        return complain(path, f"cannot be parsed: {str(error).splitlines()[0]}")
    # The parser shows names of variables as it shows texts.
    variables = {name for section in ("parameters", "variables", "resources") for name in parsed.get(section, {})}
    for name, resource in parsed.get("resources", {}).items():
        kind, version = resource["type"], str(resource["api_version"])
        content = {key: value for key, value in unconditional(resource["config"]).items() if key not in BICEP}
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", version):
            complain(path, f"{name}: {version} is no API version")
        if kind in TYPES:
            module, _, model = TYPES[kind].partition(":")
            judge = Judge(variables, lambda where, words, name=name: complain(path, f"{name}{where}: {words}"))
            judge.hold(content, getattr(importlib.import_module(module), model), "")
        elif kind not in BARE or content:
            complain(path, f"{name}: nothing to hold {kind} against")
    for name, module in parsed.get("modules", {}).items():
        call(path, name, module, complain)


def unconditional(config):
    """What stands behind `if (…)`."""
    return config["config"] if set(config) == {"condition", "config"} else config


def call(path, name, module, complain):
    """A module's file and its parameters."""
    target = path.parent / module["detail"]["full"]
    if not target.is_file():
        return complain(path, f"{name}: no file {module['detail']['full']}")
    declared = dict(re.findall(r"^param (\w+) \w+( =)?", target.read_text(), re.M))
    given = set(unconditional(module["config"]).get("params", {}))
    for unknown in given - set(declared):
        complain(path, f"{name}: {target.name} has no parameter {unknown}")
    for missing in {parameter for parameter, default in declared.items() if not default} - given:
        complain(path, f"{name}: {target.name} needs the parameter {missing}")


class Judge:
    """Holds values of one file against types."""

    def __init__(self, variables, say):
        self.variables, self.say = variables, say

    def hold(self, value, model, where):
        if isinstance(value, dict) and set(value) & {"operator", "function"}:
            return self.expression(value, model, where)
        choices = alternatives(model)
        if isinstance(value, dict):
            return self.object(value, choices, where)
        if isinstance(value, list):
            lists = [choice for choice in choices if typing.get_origin(choice) is list]
            if not lists and typing.Any not in choices:
                return self.say(where, "is a list, where none is expected")
            for inner in value:
                self.hold(inner, typing.get_args(lists[0])[0] if lists else typing.Any, f"{where}[]")
        elif not any(self.fits(value, choice) for choice in choices):
            self.say(where, f"{value!r} is none of what is expected: {', '.join(map(described, choices))}")

    def expression(self, value, model, where):
        """What it comes to is known to Azure alone, but both sides of a choice are here."""
        operator = value.get("operator", {})
        if operator.get("type") == "conditional":
            for side in ("true_value", "false_value"):
                self.hold(operator["operands"][side], model, where)

    def object(self, value, choices, where):
        for choice in choices:
            if typing.get_origin(choice) is dict:
                for key, inner in value.items():
                    self.hold(inner, typing.get_args(choice)[1], f"{where}.{key}")
                return
            if is_object(choice):
                fields = members(choice)
                for key, inner in value.items():
                    if key in fields:
                        self.hold(inner, fields[key], f"{where}.{key}")
                    else:
                        self.say(f"{where}.{key}", f"{choice.__name__} has no such property")
                return
        if typing.Any not in choices:
            self.say(where, "is an object, where none is expected")

    def fits(self, value, choice):
        if choice is typing.Any or (isinstance(value, str) and (value in self.variables or "${" in value)):
            return True
        if isinstance(choice, type) and issubclass(choice, enum.Enum):
            return value in {member.value for member in choice}
        return type(value) is choice or (choice is float and type(value) is int)


def described(model):
    if isinstance(model, type) and issubclass(model, enum.Enum):
        return " ".join(str(member.value) for member in model)
    return getattr(model, "__name__", str(model))


def is_object(model):
    return is_typeddict(model) or hasattr(model, "_attribute_map")


def alternatives(model):
    """The types that a value may have. Where an enumeration is one of them, any text is another for the library only."""
    choices = [choice for choice in typing.get_args(model) if choice is not type(None)] if typing.get_origin(model) is typing.Union else [model]
    if any(isinstance(choice, type) and issubclass(choice, enum.Enum) for choice in choices):
        choices = [choice for choice in choices if choice is not str]
    return choices


def members(model):
    """The properties of an object, by the names that they have in a template."""
    if is_typeddict(model):
        module = importlib.import_module(model.__module__)
        enumerations = importlib.import_module(f"{model.__module__.rpartition('.')[0]}.models")
        scope = {**vars(typing), **vars(enumerations), **vars(module)}
        return {name: evaluated(hint, scope) for name, hint in model.__annotations__.items()}
    module = importlib.import_module(model.__module__.rpartition(".")[0])
    found = {}
    for attribute in model._attribute_map.values():
        first, _, rest = attribute["key"].partition(".")
        if not rest:
            found[first] = named(attribute["type"], module)
            continue
        # `properties.principalId` stands for an object in an object.
        if first not in found:
            found[first] = type(f"{model.__name__}.{first}", (), {"_attribute_map": {}, "__module__": model.__module__})
        found[first]._attribute_map[rest] = {"key": rest, "type": attribute["type"]}
    return found


def named(text, module):
    """The type that an older library names like `[Container]` or `{str}`."""
    if text[0] == "[":
        return list[named(text[1:-1], module)]
    if text[0] == "{":
        return dict[str, named(text[1:-1], module)]
    return {"str": str, "int": int, "bool": bool}.get(text) or getattr(module, text, typing.Any)


def evaluated(hint, scope):
    """A hint without names in quotes, which stand within each other."""
    while isinstance(hint, (str, typing.ForwardRef)):
        text = hint if isinstance(hint, str) else hint.__forward_arg__
        hint = eval(text, scope)  # a pinned library's own annotations
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is None or not arguments:
        return hint
    if str(origin).rpartition(".")[2] in ("Required", "NotRequired", "ReadOnly"):
        return evaluated(arguments[0], scope)
    inner = tuple(evaluated(argument, scope) for argument in arguments)
    return typing.Union[inner] if origin is typing.Union else origin[inner]
