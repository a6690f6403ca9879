"""The chart under a real Helm: lint, schemas, every switch, and sentences for values that cannot work."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

helm_python = pytest.importorskip("helm_python", reason="Helm is not here: make deploy-tools")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="schemas are not here: make deploy-tools")

from tests.deploy.render import CHART, PLAIN, SIZES, manifests, plain, values  # noqa: E402

CUSTOM = ("monitoring.coreos.com/", "keda.sh/", "gateway.networking.k8s.io/")
BASE: dict[str, Any] = {"ingest": {"apiKeysSecret": "keys"}}


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            both = isinstance(value, dict) and isinstance(result.get(name), dict)
            result[name] = merged(result[name], value) if both else value
    return result


def objects(chosen: dict[str, Any]) -> list[dict[str, Any]]:
    return [document for documents in manifests(chosen).values() for document in documents]


def one(chosen: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    return next(o for o in objects(chosen) if (o["kind"], o["metadata"]["name"]) == (kind, f"live-veracity-{name}"))


EXAMPLES = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
SWITCHES = [
    {"gateway": {"autoscaling": {"kind": kind, "targetConnections": 5_000}}, "networkPolicy": {"enabled": policy}}
    | {"ingress": {"enabled": way}, "dashboard": {"enabled": way}, "streams": {"setupJob": policy}}
    | {"monitoring": {"podMonitor": eyes, "rules": eyes, "dashboards": eyes}}
    for kind, policy, way, eyes in itertools.product(
        ("none", "hpa", "keda"), (True, False), (True, False), (True, False)
    )
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_helm_lints_the_examples_strictly(name: str) -> None:
    report = helm_python.lint(str(CHART), values(name), strict=True, kube_version="v1.31.0")
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize(
    "chosen",
    [*(values(name) for name in EXAMPLES), *(merged(BASE, switch) for switch in SWITCHES)],
    ids=[*EXAMPLES, *(f"switches {number}" for number in range(len(SWITCHES)))],
)
def test_every_object_fits_the_kubernetes_schemas(chosen: dict[str, Any]) -> None:
    found = objects(chosen)
    names = [(document["kind"], document["metadata"]["name"]) for document in found]
    assert len(names) == len(set(names))
    for document in found:
        if not document["apiVersion"].startswith(CUSTOM):
            kubernetes_validate.validate(document, "1.31", strict=True)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_pod_is_restricted(name: str) -> None:
    pods = [o["spec"]["template"]["spec"] for o in objects(values(name)) if o["kind"] in ("Deployment", "Job")]
    assert len(pods) > 3
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


def test_the_grace_period_covers_the_drain_and_replicas_are_left_to_the_autoscaler() -> None:
    chosen = merged(BASE, {"gateway": {"drainSeconds": 60, "preStopSeconds": 10}})
    gateway = one(chosen, "Deployment", "gateway")["spec"]
    assert gateway["template"]["spec"]["terminationGracePeriodSeconds"] == 85
    assert "replicas" not in gateway
    assert gateway["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert one(chosen, "HorizontalPodAutoscaler", "gateway")["spec"]["minReplicas"] == 2
    fixed = merged(chosen, {"gateway": {"autoscaling": {"kind": "none"}, "replicas": 3}})
    assert one(fixed, "Deployment", "gateway")["spec"]["replicas"] == 3


def test_each_role_mounts_its_own_key_and_only_setup_may_make_streams() -> None:
    chosen = values("production")
    for role in ("gateway", "ingest", "trends", "stories", "scoring"):
        pod = one(chosen, "Deployment", role)["spec"]["template"]["spec"]
        (nats,) = [volume for volume in pod["volumes"] if volume["name"] == "nats"]
        assert nats["secret"]["items"] == [{"key": f"{role}.nk", "path": f"{role}.nk"}]
        environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
        assert environment["VERACITY_MANAGE_STREAMS"] == "false"
    job = one(chosen, "Job", "setup")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "VERACITY_MANAGE_STREAMS", "value": "true"} in job["env"]


def test_settings_in_the_chart_are_settings_the_services_have() -> None:
    from services.gateway.settings import GatewaySettings
    from services.publisher.settings import IngestSettings, StorySettings, TrendSettings
    from services.scoring.settings import ScoringSettings

    models = (GatewaySettings, IngestSettings, StorySettings, TrendSettings, ScoringSettings)
    known = {f"VERACITY_{field.upper()}" for model in models for field in model.model_fields} | {"VERACITY_FEEDS"}
    for name in EXAMPLES:
        for deployed in (o for o in objects(values(name)) if o["kind"] == "Deployment"):
            for entry in deployed["spec"]["template"]["spec"]["containers"][0].get("env", []):
                assert entry["name"] in known


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"gateway": {"replicas": -1}}, "replicas"),
        ({"gateway": {"replcas": 2}}, "replcas"),
        ({"gatway": {}}, "gatway"),
        ({"streams": {"replicas": 2}}, "replicas"),
        ({"nats": {"url": "http://nats"}}, "url"),
        ({"gateway": {"autoscaling": {"kind": "magic"}}}, "kind"),
        ({"gateway": {"env": {"lower case": "1"}}}, "lower case"),
        ({"gateway": {"drainSeconds": 60, "terminationGracePeriodSeconds": 30}}, "leave it out, or shorten"),
        ({"gateway": {"auth": {"required": True}}}, "gateway.auth.required needs a key"),
        ({"gateway": {"auth": {"secretName": "a", "jwksUrl": "https://b"}}}, "not both"),
        ({"gateway": {"autoscaling": {"minReplicas": 9, "maxReplicas": 3}}}, "larger than maxReplicas"),
        ({"gateway": {"autoscaling": {"kind": "keda"}}}, "targetConnections"),
        ({"gateway": {"handshakesPerAddress": 10}, "ingress": {"enabled": True}}, "trustedProxies"),
        ({"httpRoute": {"enabled": True}}, "parentRefs"),
        ({"nats": {"nkeySecret": "a", "credsSecret": "b"}}, "not both"),
        ({"ingest": {"apiKeysSecret": ""}}, "veracity api-key"),
    ],
)
def test_values_that_cannot_work_are_refused_with_a_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(helm_python.HelmError, match=re.escape(sentence)):
        chart = helm_python.Chart.load(str(CHART))
        chosen = merged(BASE, wrong)
        chart.validate_schema(chosen)
        chart.render(chosen, name="live", namespace="veracity")


@pytest.mark.parametrize("size", SIZES)
def test_the_plain_manifests_are_what_the_chart_renders(size: str) -> None:
    assert (PLAIN / f"{size}.yaml").read_text() == plain(size), "make manifests"
