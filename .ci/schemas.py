"""schemas.py FOLDER SWAGGER.JSON CRD.YAML…: writes a JSON schema per kind, named as kubeconform asks for it.

As strict as `kubectl --validate=strict`: where a schema names properties, others are refused.
"""

import json
import pathlib
import sys

import yaml

folder, swagger, *crds = sys.argv[1:]


class Loader(yaml.CSafeLoader):
    pass


# In YAML 1.1 "=" is a type of its own, which nobody uses; in a CRD it is the name of an operator.
Loader.add_constructor("tag:yaml.org,2002:value", Loader.construct_yaml_str)


def strict(schema):
    if isinstance(schema, list):
        return [strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    schema = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def write(group, version, kind, schema):
    name = "-".join(filter(None, [kind, group.split(".")[0], version])).lower()
    pathlib.Path(folder, f"{name}.json").write_text(json.dumps(schema))


def references(schema):
    if isinstance(schema, list):
        return {name for entry in schema for name in references(entry)}
    if not isinstance(schema, dict):
        return set()
    own = {schema["$ref"].removeprefix("#/definitions/")} if isinstance(schema.get("$ref"), str) else set()
    return own | references(list(schema.values()))


definitions = {name: strict(schema) for name, schema in json.load(open(swagger))["definitions"].items()}
definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
for schema in list(definitions.values()):
    for of in schema.get("x-kubernetes-group-version-kind", []):
        reachable, open_ = {}, references(schema)
        while open_:
            name = open_.pop()
            reachable[name] = definitions[name]
            open_ |= references(definitions[name]) - reachable.keys()
        write(of["group"], of["version"], of["kind"], {**schema, "definitions": reachable})

for path in crds:
    for crd in yaml.load_all(open(path), Loader):
        if not crd or crd.get("kind") != "CustomResourceDefinition":
            continue
        for version in crd["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            # The API server validates metadata itself; CRDs only say that it is an object.
            schema["properties"]["metadata"] = {"type": "object"}
            write(crd["spec"]["group"], version["name"], crd["spec"]["names"]["kind"], schema)
