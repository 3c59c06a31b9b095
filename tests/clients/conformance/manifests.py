"""Checks the Kubernetes manifests: against the schemas of Kubernetes, of the External Secrets Operator and of the
Prometheus operator, and against each other; and what kustomize makes of them. Arguments: the folder of the manifests,
what kustomize has made, and the two operators' resource definitions."""

import pathlib
import re
import sys
import tomllib

import jsonschema
import kubernetes_validate
import yaml

SELECTOR = {
    "type": "object",
    "properties": {name: {"type": "string", "minLength": 1} for name in ("name", "key", "namespace")},
    "required": ["name", "key"],
}
# The provider of OVHcloud came to the operator after the last version that Go's proxy has. What its documentation
# says of it: https://external-secrets.io/latest/provider/ovhcloud
OVH = {
    "type": "object",
    "properties": {
        "server": {"type": "string", "pattern": "^https://"},
        "okmsid": {"type": "string", "format": "uuid"},
        "casRequired": {"type": "boolean"},
        "okmsTimeout": {"type": "integer", "minimum": 1},
        "auth": {
            "type": "object",
            "properties": {
                "mtls": {
                    "type": "object",
                    "properties": {"certSecretRef": SELECTOR, "keySecretRef": SELECTOR},
                    "required": ["certSecretRef", "keySecretRef"],
                },
                "token": {
                    "type": "object",
                    "properties": {"tokenSecretRef": SELECTOR},
                    "required": ["tokenSecretRef"],
                },
            },
            "minProperties": 1,
            "maxProperties": 1,
        },
    },
    "required": ["server", "okmsid", "auth"],
}


def closed(schema):
    """A schema that takes no field which it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


def operator_schemas(files):
    """The schemas of the operators' resources in their present version, by kind."""
    schemas = {}
    for file in files:
        for definition in yaml.safe_load_all(file.read_text()):
            for version in definition["spec"]["versions"]:
                if version["name"] == "v1":
                    schema = version["schema"]["openAPIV3Schema"]
                    schemas[definition["spec"]["names"]["kind"]] = schema
    provider = schemas["SecretStore"]["properties"]["spec"]["properties"]["provider"]["properties"]
    provider["ovh"] = OVH
    metadata = {"type": "object", "properties": {"name": {"type": "string"}}}
    for schema in schemas.values():
        schema["properties"]["metadata"] = metadata
    return {kind: closed(schema) for kind, schema in schemas.items()}


def check_built(file):
    """Checks what is applied: each object lies in the namespace, and the pods use the configuration as it is now."""
    documents = list(yaml.safe_load_all(file.read_text()))
    for document in documents:
        kubernetes_validate.validate(document, VERSION, strict=True)
        metadata = document["metadata"]
        assert document["kind"] == "Namespace" or metadata["namespace"] == "okmsd", metadata
    [name] = [d["metadata"]["name"] for d in documents if d["kind"] == "ConfigMap"]
    assert re.fullmatch("okmsd-[0-9a-z]{10}", name), name
    [pods] = [d["spec"]["template"]["spec"] for d in documents if d["kind"] == "StatefulSet"]
    used = [volume["configMap"]["name"] for volume in pods["volumes"] if "configMap" in volume]
    assert used == [name], used
    print(f"kustomize: {len(documents)} valid")


def check(folder, definitions):
    documents = {}
    for file in sorted(folder.rglob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            key = (document["kind"], document.get("metadata", {}).get("name"))
            assert key not in documents, f"{key} is there twice"
            documents[key] = document
    operator = operator_schemas(definitions)
    for (kind, name), document in documents.items():
        match document["apiVersion"]:
            case "external-secrets.io/v1" | "monitoring.coreos.com/v1":
                jsonschema.validate(document, operator[kind])
            case "kustomize.config.k8s.io/v1beta1":
                # kustomize has read it.
                pass
            case _:
                kubernetes_validate.validate(document, VERSION, strict=True)
        print(f"{kind} {name}: valid")
    stores = {d["spec"]["secretStoreRef"]["name"] for (kind, _), d in documents.items() if kind == "ExternalSecret"}
    providers = set()
    for name in stores:
        providers |= set(documents["SecretStore", name]["spec"]["provider"])
    assert providers == {"ovh", "vault"}, providers

    # What is meant to select the pods, does.
    pods = documents["StatefulSet", "okmsd"]["spec"]
    template = pods["template"]
    labels, spec = template["metadata"]["labels"].items(), template["spec"]
    ports = {port["name"] for port in spec["containers"][0]["ports"]}
    for selector in [
        pods["selector"]["matchLabels"],
        documents["PodDisruptionBudget", "okmsd"]["spec"]["selector"]["matchLabels"],
        documents["NetworkPolicy", "okmsd"]["spec"]["podSelector"]["matchLabels"],
        documents["Service", "okmsd"]["spec"]["selector"],
        documents["Service", "okmsd-replicas"]["spec"]["selector"],
        *(spread["labelSelector"]["matchLabels"] for spread in spec["topologySpreadConstraints"]),
    ]:
        assert selector.items() <= labels, selector
    services = [d for (kind, _), d in documents.items() if kind == "Service"]
    assert {port["targetPort"] for service in services for port in service["spec"]["ports"]} <= ports
    assert ("Service", pods["serviceName"]) in documents
    monitor = documents["ServiceMonitor", "okmsd"]["spec"]
    monitored = [
        port["name"]
        for service in services
        if monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        for port in service["spec"]["ports"]
    ]
    assert monitored == [endpoint["port"] for endpoint in monitor["endpoints"]], monitored

    # Requests under way end before the pod is killed, and its ports are those of the configuration.
    configuration = tomllib.loads((folder / "okmsd.toml").read_text())
    drain = int(configuration["limits"]["shutdown_timeout"].removesuffix("s"))
    wait = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] >= wait + drain + CLOSING_TIME
    numbers = {port["name"]: port["containerPort"] for port in spec["containers"][0]["ports"]}
    for name, number in numbers.items():
        assert configuration["server"][f"{name}_listen"] == f"0.0.0.0:{number}", name
    # Each file that the configuration names is in a volume.
    mounts = [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]]
    for table in configuration.values():
        for value in table.values():
            if isinstance(value, str) and value.startswith("/"):
                assert any(value.startswith(f"{mount}/") for mount in mounts), value

    # All is applied, but for what is marked as optional.
    applied = set(documents["Kustomization", None]["resources"])
    assert applied | {"kustomization.yaml", "monitoring.yaml"} == {f.name for f in folder.glob("*.yaml")}


VERSION = "1.34"
# Seconds that the server gives its database to close, after the requests have ended.
CLOSING_TIME = 15

folder, built, *definitions = map(pathlib.Path, sys.argv[1:])
check(folder, definitions)
check_built(built)
