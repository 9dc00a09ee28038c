"""What an endpoint keeps of its configuration."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from local.hosting.endpoint_documents import in_force, retaining
from local.store import Store

VARIANTS = [{"VariantName": "a", "ModelName": "dogs", "InitialVariantWeight": 1.0}]
CAPTURE = {"DestinationS3Uri": "s3://photos/captured"}


def test_a_configuration_may_isolate_models_that_are_not(tmp_path: Path) -> None:
    site = cast("Any", SimpleNamespace(store=Store(tmp_path / "store")))
    site.store.insert("model", "dogs", {"ModelName": "dogs", "EnableNetworkIsolation": False})
    config: dict[str, Any] = {"ProductionVariants": VARIANTS}
    assert not in_force(site, config)["_Models"]["dogs"]["EnableNetworkIsolation"]
    config["EnableNetworkIsolation"] = True
    assert in_force(site, config)["_Models"]["dogs"]["EnableNetworkIsolation"]
    site.store.close()


def test_the_capture_before_is_kept_unless_it_is_excluded() -> None:
    before = {"ProductionVariants": VARIANTS, "DataCaptureConfig": CAPTURE}
    after = {"ProductionVariants": VARIANTS, "DataCaptureConfig": {"DestinationS3Uri": "s3://x/y"}}
    assert retaining(after, before, set())["DataCaptureConfig"] == CAPTURE
    assert retaining(after, before, {"DataCaptureConfig"}) == after
    uncaptured = {"ProductionVariants": VARIANTS}
    assert "DataCaptureConfig" not in retaining(after, uncaptured, set())


def test_a_serverless_variant_gets_no_number_of_instances() -> None:
    serverless = [VARIANTS[0] | {"ServerlessConfig": {}}]
    before = {"ProductionVariants": [VARIANTS[0] | {"InitialInstanceCount": 3}]}
    (kept,) = retaining({"ProductionVariants": serverless}, before, set())["ProductionVariants"]
    assert "InitialInstanceCount" not in kept
