"""Hosts with SDK 3: the resources, as AWS's own documentation strings them together."""

import json
import sys
from pathlib import Path

from sagemaker.core.helper.session_helper import Session
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant

uri = Session().upload_data(sys.argv[1], key_prefix="sdk3-models")
model = Model.create(
    model_name="sdk3",
    primary_container=ContainerDefinition(
        image="123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny:1", model_data_url=uri
    ),
    execution_role_arn="arn:aws:iam::123456789012:role/kennel",
)
config = EndpointConfig.create(
    endpoint_config_name="sdk3",
    production_variants=[
        ProductionVariant(
            variant_name="all",
            model_name="sdk3",
            instance_type="ml.m5.large",
            initial_instance_count=1,
        )
    ],
)
endpoint = Endpoint.create(endpoint_name="sdk3", endpoint_config_name="sdk3")
endpoint.wait_for_status("InService")
answer = endpoint.invoke(body=b'{"size": 3}', content_type="application/json")
result = {"answer": json.loads(answer.body.read()), "variant": answer.invoked_production_variant}
endpoint.delete()
endpoint.wait_for_delete()
config.delete()
model.delete()
result["left"] = [each.endpoint_name for each in Endpoint.get_all(name_contains="sdk3")]
Path("result.json").write_text(json.dumps(result))
